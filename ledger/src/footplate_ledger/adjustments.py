"""What closed months were billed, and what later entries of the price book changed about them; pure.

A month is closed when it ends. What it cost is what the book said by then: whoever was shown that is shown
the same ever after. An entry that was written later and concerns it appears as an adjustment, on the day on
which it was written. Months and adjustments together are what the whole book says.

Only what was found is looked up: a book of thousands of entries and an answer of ten years have very many
states, of which hardly any changes a price by which somebody pays.
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
    """The parts of `window` that lie in one month each."""
    start = window.start
    while start < window.end:
        end = min(month_end(start), window.end)
        yield Span(start, end)
        start = end


class Closing:
    """The prices of a month as they stood when it was closed, and how they changed later.

    One that has not ended by `now` is open: whatever there is in the book counts, also what was written by a
    clock that is ahead.
    """

    def __init__(self, book: Book, month: Span, now: int) -> None:
        self._book = book
        end = month_end(month.start)
        self._closed = end if end <= now else FOREVER
        self._known: dict[Stretch, tuple[Fraction | None, Sequence[tuple[int, Fraction]]]] = {}

    def __call__(self, stretch: Stretch) -> Fraction | None:
        """Nano-dollars a second when the month was closed; None: nobody had said."""
        return self._said(stretch)[0]

    def later(self, stretch: Stretch) -> Sequence[tuple[int, Fraction]]:
        """When something else was written, and by how much a second became dearer."""
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
    """By how many nano-dollars what is in `tallies` became dearer, by when that was written."""
    found: dict[int, Sum] = defaultdict(Sum)
    for tally in tallies:
        for held in (tally.paid, tally.free, tally.idle):
            for stretch, seconds in held.seconds.items():
                for at, dearer in closing.later(stretch):
                    found[at].take(seconds, dearer)
    return found
