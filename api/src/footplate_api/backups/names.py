"""What files of back-ups are called, and which of them go: pure, by their names alone.

A name says when the state that it holds was the newest one, in UTC. What is being written has another one and
counts as nothing, however it was left behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

PARTIAL: Final = ".partial"  # ends the name of a file that is being written
_FORMAT: Final = "footplate-%Y-%m-%dT%H-%M-%SZ.db"


def name_of(moment: datetime) -> str:
    """The name of a back-up of what was committed at `moment`.

    >>> name_of(datetime(2026, 1, 31, 3, 17, tzinfo=UTC))
    'footplate-2026-01-31T03-17-00Z.db'
    """
    return moment.astimezone(UTC).strftime(_FORMAT)


def moment_of(name: str) -> datetime | None:
    """When the back-up of that name was made; None for a file that is none.

    >>> moment_of("footplate-2026-01-31T03-17-00Z.db.partial") is None
    True
    """
    try:
        moment = datetime.strptime(name, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if name_of(moment) == name else None  # a digit that was left out is another name


def complete(names: Iterable[str]) -> list[str]:
    """Those of `names` that are back-ups, the newest first."""
    return sorted((name for name in names if moment_of(name) is not None), reverse=True)


def newest(names: Iterable[str], now: datetime) -> str | None:
    """The newest back-up; none that a clock which was ahead has named, as no later one would ever be due."""
    known = ((moment_of(name), name) for name in complete(names))
    return next((name for moment, name in known if moment is not None and moment <= now), None)


def surplus(names: Iterable[str], keep: int) -> list[str]:
    """Back-ups beyond the `keep` newest ones, and nothing that has another name.

    >>> surplus(["footplate-2026-01-02T00-00-00Z.db", "footplate-2026-01-01T00-00-00Z.db", "mine.db"], 1)
    ['footplate-2026-01-01T00-00-00Z.db']
    """
    return complete(names)[keep:]
