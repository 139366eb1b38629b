"""When back-ups are due, of which file, and where they go: decided without looking at either."""

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
class Schedule:
    """Points in time as cron and CronJobs write them: minute, hour, day, month, day of week, in UTC.

    Raises ValueError for a text that is none, or that never comes to pass.
    """

    text: str

    def __post_init__(self) -> None:
        if len(self.text.split()) != _FIELDS:
            raise ValueError(f"it has {len(self.text.split())} fields, where a schedule has {_FIELDS}")
        self.after(_ANY_DAY)

    def after(self, moment: datetime) -> datetime:
        """The first point in time after `moment`."""
        try:
            points: Iterator[datetime] = CronSim(self.text, moment.astimezone(UTC))
            found = next(points, None)
        except CronSimError as error:
            raise ValueError(str(error)) from None
        if found is None:
            raise ValueError("it never comes to pass")
        return found


@dataclass(frozen=True)
class BackupPlan:
    """What an installation was told of back-ups."""

    folder: Path
    schedule: Schedule = Schedule("17 3 * * *")
    keep: int = 7

    def due(self, newest: datetime | None, now: datetime) -> datetime:
        """When the next one is to be made, where the newest was made at `newest`, which is not after `now`.

        One whose time came while no process ran is made up for, once. The first one is due at once: whoever
        has just asked for back-ups sees whether they can be had.
        """
        return now if newest is None else self.schedule.after(newest)
