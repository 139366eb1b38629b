"""Converts cost sums into the rows of a response; pure.

A closed month uses the price book as it was at the month's end; later price entries become rows of their own,
with the time at which they were written. Amounts are divided and rounded only here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Final

from footplate_api.costs.grouping import Group
from footplate_api.errors import Invalid
from footplate_ledger import idle
from footplate_ledger.adjustments import ClosedMonthPrices, split_by_month, sum_adjustments
from footplate_ledger.cost_sums import CostSum, Found, Key, PricedUsage
from footplate_ledger.exact_sum import ExactSum
from footplate_ledger.intervals import Interval
from footplate_ledger.prices import PriceBook
from footplate_ledger.summary import DOLLARS, KILOGRAMS, KILOWATT_HOURS
from footplate_ledger.units import Energy, Money

MOST: Final = 20_000  # rows of one answer
MOST_COST_SUMS: Final = 30_000  # of which they are made; 2 kB each, and a row has one for each of its months
_THOUSAND: Final = 1000
_PLACES: Final = 3  # of seconds of a node


class CostKind(StrEnum):
    """Kind of a row: usage, idle capacity, or a closed month's adjustment of either."""

    USAGE = "usage"
    IDLE = "idle"
    ADJUSTMENT = "adjustment"
    IDLE_ADJUSTMENT = "idleAdjustment"


@dataclass(frozen=True)
class CostLine:
    """A row of the response; None means unknown. `at` is when an adjustment was written."""

    kind: CostKind
    span: Interval
    group: Group
    dollars: Decimal | None
    at: int | None = None
    kilowatt_hours: Decimal | None = None
    carbon_kilograms: Decimal | None = None
    node_seconds: Decimal | None = None
    unpriced_node_seconds: Decimal | None = None
    estimated_node_seconds: Decimal | None = None
    device_seconds: int | None = None
    coordinator_dollars: Decimal | None = None
    idle_dollars: Decimal | None = None
    idle_node_seconds: Decimal | None = None


def edges(window: Interval, steps: Sequence[Interval]) -> list[int]:
    """Return the boundaries of the steps and months in `window`, ascending."""
    return sorted({edge for part in (*steps, *split_by_month(window)) for edge in (part.start, part.end)})


class BoundedCostSums(Found):
    """Sums by (kind, group) and part of time, created on access, at most as many as a response may have.

    A query with too many rows is refused with Invalid before these take any memory. Idle capacity is not
    counted if it is distributed, for then it has hardly any rows.
    """

    def __init__(
        self, window: Interval, steps: Sequence[Interval], share_idle: bool = False, most: int = MOST
    ) -> None:
        super().__init__()
        self._step = _places([Interval(*edge) for edge in pairwise(edges(window, steps))], steps)
        self._share_idle, self._most = share_idle, most
        self._cells: set[tuple[Interval, Key]] = set()

    def __missing__(self, place: tuple[Key, int]) -> CostSum:
        key, at = place
        if not self._share_idle or _said(key)[0] is not CostKind.IDLE:
            self._cells.add((self._step[at], key))
            _check(len(self._cells), self._most)
        if len(self) == MOST_COST_SUMS:
            right = f"must give at most {MOST_COST_SUMS} monthly rows: use fewer dimensions or a shorter time"
            raise Invalid.field("query.groupBy", len(self) + 1, right)
        made = self[place] = CostSum()
        return made


def build_rows(
    found: Found,
    window: Interval,
    steps: Sequence[Interval],
    book: PriceBook,
    now: int,
    share_idle: bool = False,
    most: int = MOST,
) -> list[CostLine]:
    """Return the rows of sums between edges(), by (kind, group); raises Invalid for more than `most`.

    With `share_idle` idle capacity is distributed within `found`, and each usage row has its share. The sums
    of a row are removed from `found`, so that both are not in memory at once.
    """
    if share_idle:
        idle.share_idle_time(found, lambda key: _said(key)[0] is CostKind.IDLE)
    parts = [Interval(*edge) for edge in pairwise(edges(window, steps))]
    of_month, of_step = _places(parts, list(split_by_month(window))), _places(parts, steps)
    closings = {month: ClosedMonthPrices(book, month, now) for month in {of_month[at] for _, at in found}}
    cells: dict[tuple[Interval, Key], list[int]] = defaultdict(list)
    for key, at in found:
        cells[of_step[at], key].append(at)
    left = [
        cell
        for cell in _in_order(cells)
        if not share_idle or any(_is_left(cell[0][1], found[cell[0][1], at]) for at in cell[1])
    ]
    _check(len(left), most)
    changed: list[CostLine] = []
    for line in _adjustments(found, closings, of_month):
        changed.append(line)
        _check(len(left) + len(changed), most)  # before all the others are reckoned
    made = [
        _of_cell(
            key, step, [(found.pop((key, at)), closings[of_month[at]]) for at in sorted(those)], share_idle
        )
        for (step, key), those in left
    ]
    return made + sorted(changed, key=_order_of_adjustment)


def _check(count: int, most: int) -> None:
    if count > most:
        message = f"must give at most {most} rows: use fewer dimensions, a longer step or a shorter time"
        raise Invalid.field("query.groupBy", count, message)


def _order_of_adjustment(line: CostLine) -> tuple[int, Interval, CostKind, list[str]]:
    assert line.at is not None
    return line.at, line.span, line.kind, [value or "" for value in line.group]


def _places(parts: Sequence[Interval], wholes: Sequence[Interval]) -> dict[int, Interval]:
    """Return which of `wholes` contains each of `parts`, by index; both are in order."""
    starts = [whole.start for whole in wholes]
    return {at: wholes[bisect_right(starts, part.start) - 1] for at, part in enumerate(parts)}


def _in_order(
    cells: Mapping[tuple[Interval, Key], list[int]],
) -> list[tuple[tuple[Interval, Key], list[int]]]:
    return sorted(cells.items(), key=lambda cell: (cell[0][0], _order(cell[0][1])))


def _order(key: Key) -> tuple[str, list[str]]:
    kind, group = _said(key)
    return kind, [value or "" for value in group]


def _said(key: Key) -> tuple[CostKind, Group]:
    assert isinstance(key, tuple)
    kind, group = key
    return kind, group


def _is_left(key: Key, cost_sum: CostSum) -> bool:
    """Return whether a row is needed for it: idle time that was all distributed needs none."""
    return _said(key)[0] is not CostKind.IDLE or bool(cost_sum.paid.seconds)


def _of_cell(
    key: Key, step: Interval, parts: Iterable[tuple[CostSum, ClosedMonthPrices]], shares: bool
) -> CostLine:
    kind, group = _said(key)
    priced, free, waited, whole = PricedUsage(), PricedUsage(), PricedUsage(), CostSum()
    for cost_sum, rates in parts:
        priced.add(cost_sum.paid, rates, free=False)
        free.add(cost_sum.free, rates, free=True)
        waited.add(cost_sum.idle, rates, free=False)
        whole.add(cost_sum)
    line = _line(kind, step, group, priced, free)
    if kind is CostKind.IDLE:
        return line
    known = whole.is_energy_known
    grams = ExactSum()
    for of_rank in whole.carbon.values():
        grams.add_sum(of_rank)
    if shares:
        unknown = bool(waited.node_seconds) and not waited.known
        line = replace(
            line,
            idle_dollars=None if unknown else waited.money.to_decimal(Money.NANO, DOLLARS),
            idle_node_seconds=waited.node_seconds.to_decimal(1, _PLACES),
        )
    return replace(
        line,
        kilowatt_hours=whole.energy.to_decimal(Energy.PER_KILOWATT_HOUR, KILOWATT_HOURS) if known else None,
        carbon_kilograms=grams.to_decimal(_THOUSAND, KILOGRAMS) if known else None,
        device_seconds=whole.device_seconds,
        coordinator_dollars=free.money.to_decimal(Money.NANO, DOLLARS),
    )


def _line(kind: CostKind, step: Interval, group: Group, priced: PricedUsage, free: PricedUsage) -> CostLine:
    """Return the row of what was paid, coordinators included."""
    for of_all, of_free in (
        (priced.money, free.money),
        (priced.node_seconds, free.node_seconds),
        (priced.estimated, free.estimated),
    ):
        of_all.add_sum(of_free)
    return CostLine(
        kind,
        step,
        group,
        priced.money.to_decimal(Money.NANO, DOLLARS) if priced.known or free.known else None,
        node_seconds=priced.node_seconds.to_decimal(1, _PLACES),
        unpriced_node_seconds=priced.unpriced.to_decimal(1, _PLACES),
        estimated_node_seconds=priced.estimated.to_decimal(1, _PLACES),
    )


def _adjustments(
    found: Mapping[tuple[Key, int], CostSum],
    closings: Mapping[Interval, ClosedMonthPrices],
    of_month: Mapping[int, Interval],
) -> Iterator[CostLine]:
    """Yield the changes that were written after a month was closed, in no order."""
    own: dict[tuple[Interval, Key], list[CostSum]] = defaultdict(list)
    for (key, at), cost_sum in found.items():
        own[of_month[at], key].append(cost_sum)
    for (month, key), cost_sums in own.items():
        kind, group = _said(key)
        of_idle = CostKind.IDLE_ADJUSTMENT if kind is CostKind.IDLE else CostKind.ADJUSTMENT
        for at, delta in sum_adjustments(cost_sums, closings[month]).items():
            if dollars := delta.to_decimal(Money.NANO, DOLLARS):
                yield CostLine(of_idle, month, group, dollars, at)
