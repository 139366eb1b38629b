"""Kubernetes writes times as text; decisions need moments that can be subtracted.

Objects' own times have whole seconds. Ours carry milliseconds, because a run of
a minute would otherwise lose more than the promised 1 % to rounding.

The machine's clock may be put back or forth by an hour while the operator lives. What
decisions call now must not: deadlines would pass at once, or never. So now is the
machine's clock when the operator began, and the seconds since; `SteadyClock` alone says so.
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
    """UTC as it was when this was made, and what has passed since; `elapsed` never steps."""

    elapsed: Callable[[], float] = time.monotonic
    began: datetime = field(default_factory=_utc)
    _zero: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_zero", self.elapsed())

    def __call__(self) -> datetime:
        return self.began + timedelta(seconds=self.elapsed() - self._zero)


def parse_time(text: str) -> datetime:
    """The moment that RFC 3339 `text` names; raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def format_time(moment: datetime, digits: str = "milliseconds") -> str:
    """RFC 3339 in UTC, as in 2026-01-31T12:00:00.000Z; `digits` as `datetime.isoformat` calls them."""
    text = moment.astimezone(UTC).isoformat(timespec=digits)
    return text.removesuffix("+00:00") + "Z"


def from_epoch(seconds: float) -> datetime:
    """The moment `seconds` after the Unix epoch."""
    return datetime.fromtimestamp(seconds, UTC)


def seconds_between(start: datetime, end: datetime) -> float:
    """Seconds from `start` to `end`; never negative, since clocks of two machines differ."""
    return max(0.0, (end - start).total_seconds())
