"""Numbers of rows that runs keep: thinned before anything is deleted; pure.

A history is looked at whole while its run trains, and as a curve afterwards. So a run may have so many rows;
one that ended long ago fewer. Where all together are too many for the volume, namespaces share the room
equally, and what one of them does not need is the others'. Within a namespace the longest histories are cut
to one number of rows, those of ended runs to a tenth of it. A part of the room is for rows whatever else is
stored: no row is deleted to make up for what is none. What a run ended with stays in any case: the last row
of each of its newest generations.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

_EVERY: Final[tuple[int, ...]] = tuple(
    base * 10**power for power in range(17) for base in (1, 2)
)  # each divides the next
USABLE: Final = 0.75  # of the room: the log of what is deleted needs some, too
RESERVED: Final = 0.25  # of the room, for rows
GENERATIONS: Final = 10_000  # of a run, whose rows are kept
_ENDED_PART: Final = 10  # an ended run has a tenth of the rows of one that trains


@dataclass(frozen=True)
class Limits:
    """Limits of what is kept; the defaults are those of the chart."""

    rows_per_run: int = 1_000_000
    full: timedelta = timedelta(days=30)  # after its end a run is thinned
    rows_after: int = 10_000
    kept: timedelta = timedelta(days=365)  # after its end its rows are deleted


@dataclass(frozen=True)
class Stock:
    """Rows that a run has stored; `age` is the time since it ended, None while it has not."""

    run_uid: str
    rows: int
    age: timedelta | None
    namespace: str = ""


@dataclass(frozen=True)
class Room:
    """Bytes that the database may take, and those that all but the metric rows take of them."""

    whole: int
    others: int

    @property
    def crowded(self) -> bool:
        """True where no deletion of rows would make enough room."""
        return self.others > self.whole * USABLE

    @property
    def for_rows(self) -> int:
        """Bytes that rows may take.

        >>> Room(1000, 100).for_rows, Room(1000, 600).for_rows, Room(1000, 2000).for_rows
        (650, 250, 250)
        """
        return max(int(self.whole * USABLE) - self.others, int(self.whole * RESERVED))


def allowances(stocks: Sequence[Stock], limits: Limits, most: int | None) -> dict[str, int]:
    """Run -> rows that it may keep, of those that have more; `most` is the room for all together.

    >>> old = [Stock("a", 50, timedelta(days=1)), Stock("b", 900, timedelta(days=2)), Stock("c", 900, None)]
    >>> allowances(old, Limits(), 1000)
    {'b': 87, 'c': 863}
    """
    allowed = {stock.run_uid: min(stock.rows, _by_age(stock, limits)) for stock in stocks}
    if most is not None:
        _fit(stocks, allowed, most)
    return {stock.run_uid: allowed[stock.run_uid] for stock in stocks if allowed[stock.run_uid] < stock.rows}


def _by_age(stock: Stock, limits: Limits) -> int:
    if stock.age is None or stock.age <= limits.full:
        return limits.rows_per_run
    return limits.rows_after if stock.age <= limits.kept else 0


class _Claim(NamedTuple):
    """Rows that a run, or a namespace, has: a part of a common level, and no more than it asks for."""

    most: int
    part: int = 1

    def at(self, level: int) -> int:
        return min(self.most, -(-level // self.part))


def _fit(stocks: Sequence[Stock], allowed: dict[str, int], most: int) -> None:
    """Lower `allowed` to at most `most` rows together: equally by namespace, and in each of them by run."""
    if sum(allowed.values()) <= most:
        return
    claims: dict[str, dict[str, _Claim]] = {}
    for stock in stocks:
        claim = _Claim(allowed[stock.run_uid], 1 if stock.age is None else _ENDED_PART)
        claims.setdefault(stock.namespace, {})[stock.run_uid] = claim
    together = [_Claim(sum(claim.most for claim in runs.values())) for runs in claims.values()]
    for runs, share in zip(claims.values(), _levelled(together, most), strict=True):
        allowed.update(zip(runs, _levelled(list(runs.values()), share), strict=True))


def _levelled(claims: Sequence[_Claim], room: int) -> list[int]:
    """Rows of each claim at the highest level at which all fit into `room`, which is not negative.

    >>> _levelled([_Claim(10), _Claim(80), _Claim(90)], 100)
    [10, 45, 45]
    """
    levels = range(max((claim.most * claim.part for claim in claims), default=0) + 1)
    fitting = bisect_right(levels, room, key=lambda level: sum(claim.at(level) for claim in claims))
    return [claim.at(fitting - 1) for claim in claims]


def every(rows: int, keep: int) -> int | None:
    """Return which multiples of `rows` steps to keep so that at most `keep` are left; None: none of them.

    >>> every(1000, 1000), every(1000, 300), every(1000, 0)
    (1, 10, None)
    """
    if keep <= 0:
        return None
    for multiple in _EVERY:
        if rows <= keep * multiple:
            return multiple
    return None
