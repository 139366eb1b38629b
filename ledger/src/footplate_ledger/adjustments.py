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

from footplate_ledger.exact import Sum
from footplate_ledger.prices import FOREVER, Book
from footplate_ledger.tally import Stretch, Tally
from footplate_ledger.time import Span, month_end
from footplate_ledger.units import HOUR, Rate


def months(window: Span) -> Iterator[Span]:
    """Split `window` into parts that lie in one month each."""
    start = window.start
    while start < window.end:
        end = min(month_end(start), window.end)
        yield Span(start, end)
        start = end


class Closing:
    """Prices of a month when it was closed, and their later changes.

    A month that has not ended by `now` is open: all entries of the book count, also those written by a
    clock that is ahead.
    """

    def __init__(self, book: Book, month: Span, now: int) -> None:
        self._book = book
        end = month_end(month.start)
        self._closed = end if end <= now else FOREVER
        self._known: dict[Stretch, tuple[Fraction | None, Sequence[tuple[int, Fraction]]]] = {}

    def __call__(self, stretch: Stretch) -> Fraction | None:
        """Return nano-dollars a second when the month was closed; None: the book had no price."""
        return self._said(stretch)[0]

    def later(self, stretch: Stretch) -> Sequence[tuple[int, Fraction]]:
        """Return the later changes: when they were written, and by how much a second became dearer."""
        return self._said(stretch)[1]

    def _said(self, stretch: Stretch) -> tuple[Fraction | None, Sequence[tuple[int, Fraction]]]:
        found = self._known.get(stretch)
        if found is None:
            said = self._book.said(stretch.goods, stretch.since, self._closed)
            rates = [(at, None if rate is None else _a_second(rate)) for at, rate in said]
            changes = [
                (at, (after or Fraction(0)) - (before or Fraction(0)))
                for (_, before), (at, after) in pairwise(rates)
            ]
            found = self._known[stretch] = rates[0][1], changes
        return found


def _a_second(rate: Rate) -> Fraction:
    return rate.exact / HOUR


def adjustments(tallies: Iterable[Tally], closing: Closing) -> Mapping[int, Sum]:
    """Sum the nano-dollars by which `tallies` became dearer, by the second of the change."""
    found: dict[int, Sum] = defaultdict(Sum)
    for tally in tallies:
        for held in (tally.paid, tally.free, tally.idle):
            for stretch, seconds in held.seconds.items():
                for at, dearer in closing.later(stretch):
                    found[at].take(seconds, dearer)
    return found
