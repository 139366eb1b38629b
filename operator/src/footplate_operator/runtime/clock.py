"""Kubernetes writes times as text; decisions need moments that can be subtracted.

Objects' own times have whole seconds. Ours carry milliseconds, because a run of
a minute would otherwise lose more than the promised 1 % to rounding.
"""

from __future__ import annotations

from datetime import UTC, datetime


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
