"""Conversion between Kubernetes' time texts and datetimes, and a clock that never steps.

Objects' own times have whole seconds. Ours have milliseconds, because a run of a minute would otherwise lose
more than the promised 1 % to rounding.

The machine's clock may step by an hour while the operator lives. The time for decisions must not: deadlines
would pass at once, or never. So it is the machine's clock at the operator's start, plus the seconds since,
from `SteadyClock` alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class SteadyClock:
    """UTC at the construction plus the elapsed time; `elapsed` never steps."""

    elapsed: Callable[[], float] = time.monotonic
    began: datetime = field(default_factory=_utc)
    _zero: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_zero", self.elapsed())

    def __call__(self) -> datetime:
        return self.began + timedelta(seconds=self.elapsed() - self._zero)


def parse_time(text: str) -> datetime:
    """Return the moment in RFC 3339 `text`; raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def format_time(moment: datetime, digits: str = "milliseconds") -> str:
    """Return RFC 3339 in UTC, as in 2026-01-31T12:00:00.000Z; `digits` as for `datetime.isoformat`."""
    text = moment.astimezone(UTC).isoformat(timespec=digits)
    return text.removesuffix("+00:00") + "Z"


def from_epoch(seconds: float) -> datetime:
    """Return the moment `seconds` after the Unix epoch."""
    return datetime.fromtimestamp(seconds, UTC)


def seconds_between(start: datetime, end: datetime) -> float:
    """Return the seconds from `start` to `end`; never negative, since clocks of two machines differ."""
    return max(0.0, (end - start).total_seconds())
