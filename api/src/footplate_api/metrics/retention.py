"""How many rows of which run stay: thinned before anything is deleted; pure.

A history is looked at whole while its run trains, and as a curve afterwards. So a run may have so many rows;
one that ended long ago fewer. Where all together are too many for the volume, those that have ended are
thinned to one number that they all have, before the oldest lose theirs, and before one that trains is
touched. A part of the room is theirs whatever else is stored: no row is deleted to make up for what is none.
What a run ended with stays in any case: the last row of each of its newest generations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_EVERY: Final[tuple[int, ...]] = tuple(
    base * 10**power for power in range(17) for base in (1, 2)
)  # each divides the next
USABLE: Final = 0.75  # of the room: the log of what is deleted needs some, too
RESERVED: Final = 0.25  # of the room, for rows
GENERATIONS: Final = 10_000  # of a run, whose rows are kept
_SHARES: Final = (100_000, 50_000, 20_000, 10_000, 5_000, 2_000, 1_000, 500, 200, 100)


@dataclass(frozen=True)
class Limits:
    """What is kept; the defaults are those of the chart."""

    rows_per_run: int = 1_000_000
    full: timedelta = timedelta(days=30)  # after its end a run is thinned
    rows_after: int = 10_000
    kept: timedelta = timedelta(days=365)  # after its end its rows are deleted


@dataclass(frozen=True)
class Stock:
    """What a run has stored; `age` is the time since it ended, None while it has not."""

    run_uid: str
    rows: int
    age: timedelta | None


@dataclass(frozen=True)
class Room:
    """Bytes that the database may take, and those that all but the metric rows take of them."""

    whole: int
    others: int

    @property
    def crowded(self) -> bool:
        """Whether no deletion of rows would make enough room."""
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

    >>> old = [Stock("a", 500, timedelta(days=1)), Stock("b", 900, timedelta(days=2)), Stock("c", 900, None)]
    >>> allowances(old, Limits(), 2000)
    {'b': 500}
    """
    allowed = {stock.run_uid: min(stock.rows, _by_age(stock, limits)) for stock in stocks}
    if most is not None:
        _fit(stocks, allowed, most)
    return {stock.run_uid: allowed[stock.run_uid] for stock in stocks if allowed[stock.run_uid] < stock.rows}


def _by_age(stock: Stock, limits: Limits) -> int:
    if stock.age is None or stock.age <= limits.full:
        return limits.rows_per_run
    return limits.rows_after if stock.age <= limits.kept else 0


def _fit(stocks: Sequence[Stock], allowed: dict[str, int], most: int) -> None:
    """Takes from `allowed` until all together are at most `most`."""
    ended = sorted((stock for stock in stocks if stock.age is not None), key=_oldest_first)
    live = [stock for stock in stocks if stock.age is None]
    for group in (ended, live):
        for share in _SHARES:
            if sum(allowed.values()) <= most:
                return
            for stock in group:
                allowed[stock.run_uid] = min(allowed[stock.run_uid], share)
        if group is ended:
            total = sum(allowed.values())
            for stock in ended:
                if total <= most:
                    return
                total -= allowed[stock.run_uid]
                allowed[stock.run_uid] = 0


def _oldest_first(stock: Stock) -> timedelta:
    assert stock.age is not None
    return -stock.age


def every(rows: int, keep: int) -> int | None:
    """Which multiples of steps are kept of `rows` steps so that at most `keep` are left; None: none of them.

    >>> every(1000, 1000), every(1000, 300), every(1000, 0)
    (1, 10, None)
    """
    if keep <= 0:
        return None
    for multiple in _EVERY:
        if rows <= keep * multiple:
            return multiple
    return None
