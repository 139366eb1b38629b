"""Selects the part of a history that is shown, and its density; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from footplate_api.metrics.step_ranges import Extents, SegmentRange

Span = tuple[int, int, int]
"""Segment, first and last step."""


def clipped(ranges: Sequence[SegmentRange], first: int, last: int | None) -> list[SegmentRange]:
    """Return the ranges' parts from `first` to `last`; None: to the end."""
    cut = [
        replace(part, first=max(part.first, first), last=part.last if last is None else min(part.last, last))
        for part in ranges
    ]
    return [part for part in cut if part.first <= part.last]


def count_rows(ranges: Sequence[SegmentRange], extents: Extents) -> int:
    """Return how many rows `ranges` have, as far as that is known, or had before they were thinned."""
    return sum(last - first + 1 for part in ranges for first, last in extents.within(part))


def page_end(ranges: Sequence[SegmentRange], extents: Extents, limit: int) -> int:
    """Return the last step of a page of at most `limit` rows; a single step may have more rows than that."""
    low, high = min(part.first for part in ranges), max(part.last for part in ranges)
    turns = sorted(
        turn
        for part in ranges
        for first, last in extents.within(part)
        for turn in ((first, 1), (last + 1, -1))
    )
    rows = at_once = begin = 0  # of the steps before `begin`, and of each one from there on
    for step, change in turns:
        if rows + at_once * (step - begin) > limit:
            return max(low, begin - 1 + (limit - rows) // at_once)  # the first step is always shown
        rows += at_once * (step - begin)
        at_once += change
        begin = step
    return high if extents.known is None else max(low, min(high, extents.known))


def pages(ranges: Sequence[SegmentRange], extents: Extents, limit: int) -> Iterator[list[SegmentRange]]:
    """Yield all of `ranges`, in order, in parts of at most `limit` rows; a single step may have more."""
    rest = list(ranges)
    while rest:
        end = page_end(rest, extents, limit)
        yield clipped(rest, 0, end)
        rest = clipped(rest, end + 1, None)


def stride(first: int, last: int, limit: int) -> int:
    """Return an `every` for which steps first..last have at most `limit` rows.

    Shown are the multiples of `every`, and the last step whether it is one or not.

    >>> stride(1, 300, 5000), stride(0, 99_999, 5000)
    (1, 21)
    """
    steps = last - first + 1
    if steps <= limit:
        return 1
    # At most span // every + 1 multiples lie in a span, plus the last step.
    return -(-steps // max(limit - 2, 1))


def buckets(ranges: Sequence[SegmentRange], every: int, limit: int) -> tuple[list[Span], int | None]:
    """Return at most `limit` spans, whose last rows are shown, and the step that follows them.

    A span ends with a multiple of `every`, or with the history: if each step has a row, its last one is that
    multiple. If two generations share a multiple, the later rows are shown.
    """
    found: list[Span] = []
    shown = -1  # the multiple with which the last of them ends
    for part in ranges:
        low = part.first
        while low <= part.last:
            end = -(-low // every) * every
            high = min(end, part.last)
            if end == shown:
                found.pop()
            elif len(found) == limit:
                return found, low
            found.append((part.segment.id, low, high))
            shown, low = end, high + 1
    return found, None
