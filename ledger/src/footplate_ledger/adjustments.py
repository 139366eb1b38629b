"""What closed months were billed, and what later entries of the price book changed about them; pure.

A month is closed when it ends. What it cost is what the book said by then: whoever was shown that is shown
the same ever after. An entry that was written later and concerns it appears as an adjustment, on the day on
which it was written. Months and adjustments together are what the whole book says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from footplate_ledger.bill import Cost
from footplate_ledger.prices import Book
from footplate_ledger.time import Span, month_end
from footplate_ledger.units import Money

Costing = Callable[[Book, Span], Cost]
"""What a part of time costs by a book."""


@dataclass(frozen=True, slots=True)
class Billed:
    """A month, or the part of it that was asked for, as it stood when it was closed or stands now."""

    span: Span
    cost: Cost


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What an entry that was written in the second `at` changed about a month that was closed."""

    at: int
    concerns: Span
    money: Money


def months(window: Span) -> Iterator[Span]:
    """The parts of `window` that lie in one month each."""
    start = window.start
    while start < window.end:
        end = min(month_end(start), window.end)
        yield Span(start, end)
        start = end


def states(book: Book, month: Span, now: int) -> tuple[Book, list[tuple[int, Book]]]:
    """The book when the month of `month` was closed, or as it is now; each later state, and since when."""
    closed = min(month_end(month.start), now)
    written = sorted({entry.created_at for entry in book.entries if closed < entry.created_at <= now})
    return book.known_at(closed), [(at, book.known_at(at)) for at in written]


def billed(cost: Costing, book: Book, window: Span, now: int) -> tuple[list[Billed], list[Adjustment]]:
    """The months of `window`, which begins and ends at some time, and the adjustments that concern them."""
    found: list[Billed] = []
    changed: list[Adjustment] = []
    for month in months(window):
        first, later = states(book, month, now)
        before = cost(first, month)
        found.append(Billed(month, before))
        for at, state in later:
            after = cost(state, month)
            if after.money != before.money:
                changed.append(Adjustment(at, month, after.money - before.money))
            before = after
    return found, sorted(changed, key=lambda adjustment: (adjustment.at, adjustment.concerns))
