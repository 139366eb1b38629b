"""Row limits of runs: histories are thinned before anything is deleted; pure.

A history is read whole while its run trains, and as a curve afterwards. So each run has a row limit, which is
lower if the run ended long ago. If all rows together are too many for the volume, namespaces share the space
equally, and what a namespace does not need goes to the others. Within a namespace the longest histories are
cut to one number of rows, those of ended runs to a tenth of it. A part of the space is reserved for rows: no
row is deleted to make up for other data. The last row of each of a run's newest generations stays in any
case.
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
class RetentionLimits:
    """Retention limits; the defaults are those of the chart."""

    rows_per_run: int = 1_000_000
    full: timedelta = timedelta(days=30)  # after its end a run is thinned
    rows_after: int = 10_000
    kept: timedelta = timedelta(days=365)  # after its end its rows are deleted


@dataclass(frozen=True)
class RunRows:
    """Stored rows of a run; `age` is the time since it ended, None while it has not."""

    run_uid: str
    rows: int
    age: timedelta | None
    namespace: str = ""


@dataclass(frozen=True)
class DatabaseQuota:
    """Bytes that the database may take, and bytes that everything but the metric rows takes."""

    whole: int
    others: int

    @property
    def is_over_quota(self) -> bool:
        """True if no deletion of rows would free enough space."""
        return self.others > self.whole * USABLE

    @property
    def bytes_for_rows(self) -> int:
        """Bytes that rows may take.

        >>> tuple(DatabaseQuota(1000, others).bytes_for_rows for others in (100, 600, 2000))
        (650, 250, 250)
        """
        return max(int(self.whole * USABLE) - self.others, int(self.whole * RESERVED))


def row_limits(stocks: Sequence[RunRows], limits: RetentionLimits, most: int | None) -> dict[str, int]:
    """Return run -> rows that it may keep, for runs that have more; `most` limits all of them together.

    >>> day = timedelta(days=1)
    >>> old = [RunRows("a", 50, day), RunRows("b", 900, 2 * day), RunRows("c", 900, None)]
    >>> row_limits(old, RetentionLimits(), 1000)
    {'b': 87, 'c': 863}
    """
    allowed = {stock.run_uid: min(stock.rows, _by_age(stock, limits)) for stock in stocks}
    if most is not None:
        _fit(stocks, allowed, most)
    return {stock.run_uid: allowed[stock.run_uid] for stock in stocks if allowed[stock.run_uid] < stock.rows}


def _by_age(stock: RunRows, limits: RetentionLimits) -> int:
    if stock.age is None or stock.age <= limits.full:
        return limits.rows_per_run
    return limits.rows_after if stock.age <= limits.kept else 0


class _Claim(NamedTuple):
    """Rows that a run, or a namespace, may get: a part of a common level, and at most its own."""

    most: int
    part: int = 1

    def at(self, level: int) -> int:
        return min(self.most, -(-level // self.part))


def _fit(stocks: Sequence[RunRows], allowed: dict[str, int], most: int) -> None:
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
    """Return the rows of each claim at the highest level at which all fit into `room`, which is not negative.

    >>> _levelled([_Claim(10), _Claim(80), _Claim(90)], 100)
    [10, 45, 45]
    """
    levels = range(max((claim.most * claim.part for claim in claims), default=0) + 1)
    fitting = bisect_right(levels, room, key=lambda level: sum(claim.at(level) for claim in claims))
    return [claim.at(fitting - 1) for claim in claims]


def thinning_stride(rows: int, keep: int) -> int | None:
    """Return a stride whose multiples among `rows` steps are at most `keep`; None: no row is left.

    >>> thinning_stride(1000, 1000), thinning_stride(1000, 300), thinning_stride(1000, 0)
    (1, 10, None)
    """
    if keep <= 0:
        return None
    for multiple in _EVERY:
        if rows <= keep * multiple:
            return multiple
    return None
