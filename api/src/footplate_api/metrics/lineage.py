"""Which rows of a run are its history: those of the weights that exist; pure.

A generation that begins again at an earlier step makes the later rows of those before it a future that was
given up. So a row counts only if no row of an earlier or the same step has a newer generation: of every
generation the steps from its first one up to where the next newer one begins. Nothing is rewritten for that:
what a generation has stored is known as extents, stretches of steps without a gap, and the history follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Extent = tuple[int, int]
"""First and last step of a stretch that has no gap."""


@dataclass(frozen=True)
class Segment:
    """What one generation of a run has stored; `extents` ascend, and there is at least one."""

    id: int
    epoch: int
    number: int
    extents: tuple[Extent, ...]

    @property
    def generation(self) -> tuple[int, int]:
        """By which segments of a run are ordered."""
        return self.epoch, self.number

    @property
    def first(self) -> int:
        """Its first step."""
        return self.extents[0][0]

    @property
    def last(self) -> int:
        """Its last step."""
        return self.extents[-1][1]


@dataclass(frozen=True)
class Stretch:
    """Steps `first` to `last` of a segment; not all of them need have a row."""

    segment: Segment
    first: int
    last: int


def newest(segments: Iterable[Segment]) -> Segment | None:
    """The segment of the newest generation: its last step is where the run stands."""
    return max(segments, key=lambda segment: segment.generation, default=None)


def standing(segments: Iterable[Segment]) -> list[Stretch]:
    """The history, ascending: at most one stretch of each segment, and none overlaps another.

    >>> old, new = Segment(1, 1, 1, ((1, 10),)), Segment(2, 1, 2, ((6, 7),))
    >>> [(part.segment.id, part.first, part.last) for part in standing([old, new])]
    [(1, 1, 5), (2, 6, 7)]
    """
    found: list[Stretch] = []
    for segment, end in _ends(segments):
        last = segment.last if end is None else min(segment.last, end)
        if segment.first <= last:
            found.append(Stretch(segment, segment.first, last))
    return found[::-1]


def superseded(segments: Iterable[Segment]) -> list[Stretch]:
    """The rows that are no history any more, by segment, oldest generation first."""
    found: list[Stretch] = []
    for segment, end in _ends(segments):
        if end is not None and end < segment.last:
            found.append(Stretch(segment, max(segment.first, end + 1), segment.last))
    return found[::-1]


def _ends(segments: Iterable[Segment]) -> Iterable[tuple[Segment, int | None]]:
    """Segments, newest first, each with the last step up to which its rows count; None: all do."""
    end: int | None = None
    for segment in sorted(segments, key=lambda segment: segment.generation, reverse=True):
        yield segment, end
        end = segment.first - 1 if end is None else min(end, segment.first - 1)


def holes(stretches: Sequence[Stretch], first: int, last: int) -> list[Extent]:
    """Steps from `first` to `last` that no stretch has a row of, ascending.

    Every step has one: those that miss were lost, with the coordinator and the pod of rank 0 together.
    """
    missing, expected = [], first
    for part in stretches:
        for begin, end in part.segment.extents:
            begin, end = max(begin, part.first), min(end, part.last, last)
            if end < expected or begin > end:
                continue
            if begin > expected:
                missing.append((expected, begin - 1))
            expected = end + 1
    if expected <= last:
        missing.append((expected, last))
    return missing


def merged(extents: Iterable[Extent], steps: Iterable[int]) -> tuple[Extent, ...]:
    """`extents` with `steps` in them, ascending, as few as can be.

    >>> merged([(1, 3), (7, 9)], [4, 5, 6, 12])
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
