"""Splits a time window into the steps of a cost query; pure.

| step | begins |
|---|---|
| hour, day | with each hour and day of UTC |
| week | on Mondays |
| month | on the first of each |
| a number of seconds | with the beginning of the window |
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from footplate_api.errors import Invalid
from footplate_ledger.intervals import Interval, month_end

MOST: Final = 1000  # steps of one answer
_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_WEEK: Final = 7 * _DAY
_MONDAY: Final = 4 * _DAY  # 1970 began on a Thursday
_REGULAR: Final = {"hour": (_HOUR, 0), "day": (_DAY, 0), "week": (_WEEK, _MONDAY)}
_SHORTEST: Final = 60
_RIGHT: Final = f"must be hour, day, week, month or a whole number of seconds, at least {_SHORTEST}"


def split_window(window: Interval, step: str | None) -> list[Interval]:
    """Split `window`, which is not empty, into steps; without `step` it is one part.

    Raises Invalid for an unknown step, and for more than MOST parts.
    """
    found: list[Interval] = []
    for part in [window] if step is None else _parts(window, step):
        if len(found) == MOST:
            raise Invalid.field("query.step", step, f"must be longer: a response has at most {MOST} steps")
        found.append(part)
    return found


def _parts(window: Interval, step: str) -> Iterator[Interval]:
    start = window.start
    if step != "month":
        length, first = _length(window, step)
        start_of_step = start - (start - first) % length
    while start < window.end:
        if step == "month":
            end = month_end(start)
        else:
            end = start_of_step = start_of_step + length
        yield Interval(start, min(end, window.end))
        start = end


def _length(window: Interval, step: str) -> tuple[int, int]:
    """Return the seconds of a regular step, and a second in which one begins."""
    if step in _REGULAR:
        return _REGULAR[step]
    if not step.isascii() or not step.isdigit() or len(step) > 12 or int(step) < _SHORTEST:
        raise Invalid.field("query.step", step, _RIGHT)
    return int(step), window.start


def month_of(moment: datetime) -> datetime:
    """Return the first moment of the month.

    >>> month_of(datetime(2026, 2, 28, 12, tzinfo=UTC)).isoformat()
    '2026-02-01T00:00:00+00:00'
    """
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
