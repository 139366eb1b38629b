"""Window of failures that restart limits count: for a day, and until three checkpoints are durable.

A healthy month on a large machine has more failures than any limit, and more than a
status can list. So the status counts them by the hour, by the newest durable checkpoint at that
time and by cause, and merges failures that need not be distinguished any more. No more than 25 hours,
three checkpoints and the time before them are ever distinguished, whatever the number of
failures, and the count is exact: all failures since the third-newest durable
checkpoint, and all of the present hour and of the 24 before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from footplate_contracts.v1alpha1.status import RECENT_LIMIT, RecentFailures
from footplate_operator.runtime.clock import format_time, parse_time

CHECKPOINTS: Final = 3
DAY: Final = timedelta(hours=24)

Recent = tuple[RecentFailures, ...]


def count_failures(recent: Recent, cause: str, steps: Sequence[int], now: datetime) -> int:
    """Count the failures by `cause` in the window; `steps`: the last three durable checkpoints."""
    return sum(part.failures.get(cause, 0) for part in prune_failures(recent, steps, now))


def prune_failures(recent: Recent, steps: Sequence[int], now: datetime) -> Recent:
    """Return the failures of `recent` in the window, merged where no difference matters any more."""
    since = steps[-CHECKPOINTS] if len(steps) >= CHECKPOINTS else 0
    yesterday = _hour(now) - DAY
    parts: list[tuple[datetime, int, RecentFailures]] = []
    for part in recent:
        hour = parse_time(part.hour)
        # A checkpoint before the third-newest never comes back: only the hour counts from then on.
        step = part.checkpoint_step if part.checkpoint_step >= since else 0
        if hour >= yesterday or step >= since:
            parts.append((hour, step, part))
    old: dict[int, datetime] = {}  # of what only a checkpoint keeps, the hour says nothing more
    for hour, step, _ in parts:
        if hour < yesterday:
            old[step] = max(hour, old.get(step, hour))
    return _bounded(
        _merged((old[step] if hour < yesterday else hour, step, part) for hour, step, part in parts)
    )


def add_failures(recent: Recent, cause: str, moment: datetime, checkpoint: int, number: int = 1) -> Recent:
    """Return `recent` with `number` more failures by `cause` at `moment`; `checkpoint`: the newest then."""
    hour = _hour(moment)
    new = _part(hour, checkpoint, {cause: number})
    return _merged((parse_time(part.hour), part.checkpoint_step, part) for part in (*recent, new))


def remove_failure(recent: Recent, cause: str, seen: datetime, instead: str | None = None) -> Recent:
    """Return `recent` without the last failure by `cause` seen at `seen`, or with it moved to `instead`."""
    those = [number for number, part in enumerate(recent) if part.failures.get(cause)]
    if not those:
        return recent
    found = max((number for number in those if parse_time(recent[number].hour) <= seen), default=those[0])
    counts = dict(recent[found].failures)
    counts[cause] -= 1
    if instead is not None:
        counts[instead] = counts.get(instead, 0) + 1
    changed = recent[found].model_copy(update={"failures": _positive(counts)})
    parts = (*recent[:found], changed, *recent[found + 1 :])
    return tuple(part for part in parts if part.failures)


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _merged(parts: Iterable[tuple[datetime, int, RecentFailures]]) -> Recent:
    """Merge parts of the same hour and checkpoint; return them in this order."""
    merged: list[RecentFailures] = []
    ordered = sorted(parts, key=lambda part: part[:2])
    for (hour, step), same in groupby(ordered, key=lambda part: part[:2]):
        counts: Counter[str] = Counter()
        for _, _, part in same:
            counts.update(part.failures)
        merged.append(_part(hour, step, counts))
    return tuple(merged)


def _bounded(recent: Recent) -> Recent:
    """Merge the oldest parts, as if they had come a little later, where backward clocks made too many."""
    while len(recent) > RECENT_LIMIT:
        first, second, *rest = recent
        hour, step = parse_time(second.hour), max(first.checkpoint_step, second.checkpoint_step)
        recent = _merged(
            [
                (hour, step, first),
                (hour, step, second),
                *((parse_time(part.hour), part.checkpoint_step, part) for part in rest),
            ]
        )
    return recent


def _part(hour: datetime, step: int, counts: Mapping[str, int]) -> RecentFailures:
    return RecentFailures(hour=format_time(hour, "seconds"), checkpoint_step=step, failures=_positive(counts))


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {cause: number for cause, number in sorted(counts.items()) if number > 0}
