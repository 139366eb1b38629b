"""Folder, schedule and number of backups, evaluated without access to files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cronsim import CronSim, CronSimError

_FIELDS: Final = 5
_ANY_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class CronSchedule:
    """A schedule as cron and CronJobs write it: minute, hour, day, month, day of week, in UTC.

    Raises ValueError for a text that is no schedule, or that matches no time.
    """

    text: str

    def __post_init__(self) -> None:
        if len(self.text.split()) != _FIELDS:
            raise ValueError(f"it has {len(self.text.split())} fields; a schedule has {_FIELDS}")
        self.after(_ANY_DAY)

    def after(self, moment: datetime) -> datetime:
        """Return the first scheduled time after `moment`."""
        try:
            points: Iterator[datetime] = CronSim(self.text, moment.astimezone(UTC))
            found = next(points, None)
        except CronSimError as error:
            raise ValueError(str(error)) from None
        if found is None:
            raise ValueError("it matches no time")
        return found


@dataclass(frozen=True)
class BackupPlan:
    """Backup settings of an installation."""

    folder: Path
    schedule: CronSchedule = CronSchedule("17 3 * * *")
    keep: int = 7

    def due(self, newest: datetime | None, now: datetime) -> datetime:
        """Return when the next backup is due; `newest` is the time of the newest one, not after `now`.

        A backup that was missed while no process ran is made up for, once. The first one is due at once, so
        that whoever enables backups sees whether they work.
        """
        return now if newest is None else self.schedule.after(newest)
