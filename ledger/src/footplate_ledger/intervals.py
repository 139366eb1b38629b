"""Half-open intervals of whole seconds, UTC; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise

from footplate_ledger.units import Seconds


def unix_second(moment: datetime) -> int:
    """Return the whole second in which `moment` lies, since 1970."""
    return math.floor(moment.timestamp())


def month_end(second: int) -> int:
    """Return the first second of the month after the month of `second`.

    >>> month_end(0) == 31 * 86400
    True
    """
    day = datetime.fromtimestamp(second, UTC)
    following = day.year + day.month // 12, day.month % 12 + 1
    return int(datetime(*following, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """Interval from `start` up to, and without, `end`; seconds since 1970."""

    start: int
    end: int

    @property
    def seconds(self) -> Seconds:
        """Length of the interval; 0 where it ends before it begins."""
        return Seconds(Fraction(max(0, self.end - self.start)))

    def __bool__(self) -> bool:
        return self.start < self.end

    def within(self, other: Interval) -> Interval:
        """Return the part of it that lies in `other`."""
        return Interval(max(self.start, other.start), min(self.end, other.end))

    def cut(self, at: Iterable[int]) -> Iterator[Interval]:
        """Split it at the seconds `at`.

        >>> [(part.start, part.end) for part in Interval(0, 10).cut([7, 3, 3, 12])]
        [(0, 3), (3, 7), (7, 10)]
        """
        edges = [self.start, *sorted({edge for edge in at if self.start < edge < self.end}), self.end]
        return (Interval(*edge) for edge in pairwise(edges) if edge[0] < edge[1])
