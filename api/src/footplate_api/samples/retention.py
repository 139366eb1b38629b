"""Retention of samples: the number of steps that retain them; pure.

Samples are a hundred times as long as rows, and read one step at a time. So they have limits of their own,
and what is left is spread evenly over the run: each pass leaves at most one step of each interval. Samples of
an abandoned branch, which no response shows, go before any other of their run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from footplate_api.metrics.retention import RetentionLimits
from footplate_api.metrics.step_ranges import SegmentRange

STEPS: Final = 500  # of a run, some 10 MB
STEPS_AFTER: Final = 50  # once its rows are thinned
LAST: Final = 1  # step that a run keeps for good, however old it is
SHARE: Final = 0.125  # of the room, for the samples of all runs


def limits(of_rows: RetentionLimits) -> RetentionLimits:
    """Return the limits of samples, with the ages at which rows are thinned and deleted."""
    return RetentionLimits(STEPS, of_rows.full, STEPS_AFTER, of_rows.kept)


def max_steps(room: int | None, steps: int, size: int) -> int | None:
    """Return how many steps fit, if `steps` take `size` bytes; None without a limit.

    >>> max_steps(80_000, 10, 1000), max_steps(None, 10, 1000), max_steps(80_000, 0, 0)
    (100, None, None)
    """
    return None if room is None or not size else int(room * SHARE * steps / size)


def surplus(steps: Sequence[int], keep: int) -> list[int]:
    """Return which of `steps` (ascending) to delete, so that at most `keep` stay, and the last in any case.

    The last step of each interval stays; intervals end at multiples of a length, as the steps with samples
    depend on how often a run samples.

    >>> surplus([1, 5, 9, 13, 17, 21], 3), surplus([1, 2, 3], 3), surplus([1, 2, 3], 0)
    ([1, 9, 17], [], [1, 2])
    """
    if len(steps) <= keep:
        return []
    length = 1
    while keep > 1 and len({-(-step // length) for step in steps}) > keep:
        length *= 2
    kept = {-(-step // length): step for step in steps} if keep > 1 else {}
    return sorted(set(steps) - {*kept.values(), steps[-1]})


def expired_steps(
    places: Iterable[tuple[int, int]], standing: Iterable[SegmentRange], keep: int
) -> list[tuple[int, int]]:
    """Return which `places`, (segment, step), to delete, in order: all outside the history, and its surplus.

    >>> from footplate_api.metrics.step_ranges import Segment
    >>> history = [
    ...     SegmentRange(Segment(1, 1, 1, 1, 3), 1, 1),
    ...     SegmentRange(Segment(2, 1, 2, 2, 3), 2, 3),
    ... ]
    >>> expired_steps([(1, 1), (1, 2), (1, 3), (2, 2), (2, 3)], history, 3)
    [(1, 2), (1, 3)]
    >>> expired_steps([(1, 1), (1, 2), (1, 3), (2, 2), (2, 3)], history, 0)
    [(1, 1), (1, 2), (1, 3), (2, 2)]
    """
    spans = {part.segment.id: (part.first, part.last) for part in standing}
    shown: dict[int, int] = {}  # step -> segment; no two ranges of a history have a step in common
    left: list[tuple[int, int]] = []
    for segment, step in places:
        first, last = spans.get(segment, (1, 0))
        if first <= step <= last:
            shown[step] = segment
        else:
            left.append((segment, step))
    return sorted([*left, *((shown[step], step) for step in surplus(sorted(shown), keep))])
