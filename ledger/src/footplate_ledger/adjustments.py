"""Bills of closed months, and their changes by later entries of the price book; pure.

A month is closed when it ends. Its cost follows from the book's entries by then: its bill stays the same
ever after. A later entry that concerns it appears as an adjustment, on the day on
which it was written. Months and adjustments together are the cost by the whole book.

Only used prices are looked up: a book of thousands of entries and a response over ten years have very many
states, of which hardly any changes a price that anybody pays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from footplate_ledger.cost_sums import CostSum, PricePeriod
from footplate_ledger.exact_sum import ExactSum
from footplate_ledger.intervals import Interval, month_end
from footplate_ledger.prices import FOREVER, PriceBook
from footplate_ledger.units import HOUR, HourlyRate


def split_by_month(window: Interval) -> Iterator[Interval]:
    """Split `window` into parts that lie in one month each."""
    start = window.start
    while start < window.end:
        end = min(month_end(start), window.end)
        yield Interval(start, end)
        start = end


class ClosedMonthPrices:
    """Prices of a month when it was closed, and their later changes.

    A month that has not ended by `now` is open: all entries of the book count, also those written by a
    clock that is ahead.
    """

    def __init__(self, book: PriceBook, month: Interval, now: int) -> None:
        self._book = book
        end = month_end(month.start)
        self._closed = end if end <= now else FOREVER
        self._known: dict[PricePeriod, tuple[Fraction | None, Sequence[tuple[int, Fraction]]]] = {}

    def __call__(self, period: PricePeriod) -> Fraction | None:
        """Return nano-dollars a second when the month was closed; None: the book had no price."""
        return self._said(period)[0]

    def later_changes(self, period: PricePeriod) -> Sequence[tuple[int, Fraction]]:
        """Return the later changes: when they were written, and by how much a second became dearer."""
        return self._said(period)[1]

    def _said(self, period: PricePeriod) -> tuple[Fraction | None, Sequence[tuple[int, Fraction]]]:
        found = self._known.get(period)
        if found is None:
            said = self._book.rate_history(period.sku, period.since, self._closed)
            rates = [(at, None if rate is None else _a_second(rate)) for at, rate in said]
            changes = [
                (at, (after or Fraction(0)) - (before or Fraction(0)))
                for (_, before), (at, after) in pairwise(rates)
            ]
            found = self._known[period] = rates[0][1], changes
        return found


def _a_second(rate: HourlyRate) -> Fraction:
    return rate.exact / HOUR


def sum_adjustments(cost_sums: Iterable[CostSum], closing: ClosedMonthPrices) -> Mapping[int, ExactSum]:
    """Sum the nano-dollars by which `cost_sums` became dearer, by the second of the change."""
    found: dict[int, ExactSum] = defaultdict(ExactSum)
    for cost_sum in cost_sums:
        for held in (cost_sum.paid, cost_sum.free, cost_sum.idle):
            for period, seconds in held.seconds.items():
                for at, dearer in closing.later_changes(period):
                    found[at].add_sum(seconds, dearer)
    return found
