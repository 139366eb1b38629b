"""File names of backups, and the choice of those to delete: pure, by their names alone.

A name states when the backup's state was the newest one, in UTC. A file in progress has another name and
never counts as a backup, whatever left it behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

PARTIAL: Final = ".partial"  # ends the name of a file that is being written
_FORMAT: Final = "footplate-%Y-%m-%dT%H-%M-%SZ.db"


def name_of(moment: datetime) -> str:
    """Return the name of a backup of what was committed at `moment`.

    >>> name_of(datetime(2026, 1, 31, 3, 17, tzinfo=UTC))
    'footplate-2026-01-31T03-17-00Z.db'
    """
    return moment.astimezone(UTC).strftime(_FORMAT)


def moment_of(name: str) -> datetime | None:
    """Return when the backup of that name was created; None for a file that is no backup.

    >>> moment_of("footplate-2026-01-31T03-17-00Z.db.partial") is None
    True
    """
    try:
        moment = datetime.strptime(name, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if name_of(moment) == name else None  # a digit that was left out is another name


def backup_names(names: Iterable[str]) -> list[str]:
    """Return the backups among `names`, newest first."""
    return sorted((name for name in names if moment_of(name) is not None), reverse=True)


def newest(names: Iterable[str], now: datetime) -> str | None:
    """Return the newest backup up to `now`.

    A later one, named by a clock that was ahead, is ignored, or no new backup would ever be due.
    """
    known = ((moment_of(name), name) for name in backup_names(names))
    return next((name for moment, name in known if moment is not None and moment <= now), None)


def surplus(names: Iterable[str], keep: int) -> list[str]:
    """Return the backups beyond the `keep` newest; files with other names never count.

    >>> surplus(["footplate-2026-01-02T00-00-00Z.db", "footplate-2026-01-01T00-00-00Z.db", "mine.db"], 1)
    ['footplate-2026-01-01T00-00-00Z.db']
    """
    return backup_names(names)[keep:]
