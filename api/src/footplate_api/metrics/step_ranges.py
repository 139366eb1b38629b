"""Selects the rows that are a run's history: those of the weights that exist; pure.

A generation that begins again at an earlier step supersedes the later rows of the generations before it. So a
row counts only if no row of an earlier or the same step has a newer generation: each generation counts from
its first step up to where the next newer one begins. Nothing is rewritten for that: the stored steps of a
generation are known as extents, ranges of steps without a gap, and the history follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Extent = tuple[int, int]
"""First and last step of a range that has no gap."""


@dataclass(frozen=True)
class Segment:
    """Stored rows of one generation of a run: from step `first` to `last`, with gaps or without."""

    id: int
    epoch: int
    number: int
    first: int
    last: int

    @property
    def generation(self) -> tuple[int, int]:
        """Generation, by which segments of a run are ordered."""
        return self.epoch, self.number


@dataclass(frozen=True)
class SegmentRange:
    """Steps `first` to `last` of a segment; not all of them need have a row."""

    segment: Segment
    first: int
    last: int


@dataclass(frozen=True)
class Extents:
    """Steps that have rows, as far as they were read: the extents of all segments up to step `known`."""

    of: Mapping[int, Sequence[Extent]]  # segment -> ascending
    known: int | None = None  # None: all of them

    def within(self, part: SegmentRange) -> Iterator[Extent]:
        """Yield the extents of a range, cut at its ends and at `known`."""
        end = part.last if self.known is None else min(part.last, self.known)
        for first, last in self.of.get(part.segment.id, ()):
            first, last = max(first, part.first), min(last, end)
            if first <= last:
                yield first, last


def effective_ranges(segments: Iterable[Segment]) -> list[SegmentRange]:
    """Return the history, ascending: at most one range of each segment, and none overlaps another.

    >>> old, new = Segment(1, 1, 1, 1, 10), Segment(2, 1, 2, 6, 7)
    >>> [(part.segment.id, part.first, part.last) for part in effective_ranges([old, new])]
    [(1, 1, 5), (2, 6, 7)]
    """
    found: list[SegmentRange] = []
    for segment, end in _ends(segments):
        last = segment.last if end is None else min(segment.last, end)
        if segment.first <= last:
            found.append(SegmentRange(segment, segment.first, last))
    return found[::-1]


def superseded_ranges(segments: Iterable[Segment]) -> list[SegmentRange]:
    """Return the rows that are no history any more, by segment, oldest generation first."""
    found: list[SegmentRange] = []
    for segment, end in _ends(segments):
        if end is not None and end < segment.last:
            found.append(SegmentRange(segment, max(segment.first, end + 1), segment.last))
    return found[::-1]


def _ends(segments: Iterable[Segment]) -> Iterable[tuple[Segment, int | None]]:
    """Yield segments, newest first, each with the last step up to which its rows count; None: all do."""
    end: int | None = None
    for segment in sorted(segments, key=lambda segment: segment.generation, reverse=True):
        yield segment, end
        end = segment.first - 1 if end is None else min(end, segment.first - 1)


def missing_ranges(ranges: Sequence[SegmentRange], extents: Extents, first: int, last: int) -> list[Extent]:
    """Return the steps from `first` to `last` without a row in any range, ascending, as far as known.

    Every step should have one: missing ones were lost, with the coordinator and the pod of rank 0 together.
    """
    missing, expected = [], first
    last = last if extents.known is None else min(last, extents.known)
    for part in ranges:
        for begin, end in extents.within(part):
            end = min(end, last)
            if end < expected or begin > end:
                continue
            if begin > expected:
                missing.append((expected, begin - 1))
            expected = end + 1
    if expected <= last:
        missing.append((expected, last))
    return missing


def merge_steps(extents: Iterable[Extent], steps: Iterable[int]) -> tuple[Extent, ...]:
    """Return `extents` with `steps` in them, ascending, as few as possible.

    >>> merge_steps([(1, 3), (7, 9)], [4, 5, 6, 12])
    ((1, 9), (12, 12))
    """
    joined: list[Extent] = []
    for first, last in sorted([*extents, *_runs(steps)]):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def _runs(steps: Iterable[int]) -> list[Extent]:
    found: list[Extent] = []
    for step in sorted(steps):
        if found and step <= found[-1][1] + 1:
            found[-1] = (found[-1][0], step)
        else:
            found.append((step, step))
    return found
