"""A closed month says what it said; later entries are adjustments with their own date."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from footplate_ledger.adjustments import Adjustment, billed, months
from footplate_ledger.bill import Cost, lines, sum_of
from footplate_ledger.prices import Book, Entry
from footplate_ledger.time import Span
from footplate_ledger.units import Money, Rate
from footplate_ledger.usage import RUNNING, Evidence, Goods, NodeUsage


def at(month: int, day: int = 1) -> int:
    return int(datetime(2026, month, day, tzinfo=UTC).timestamp())


H100 = Goods("h100")
NODE = NodeUsage("n", "n", H100, at(1), Evidence(RUNNING, at(1)), devices=8)
SPRING = Span(at(1), at(4))
NOW = at(4)


def cost(book: Book, span: Span) -> Cost:
    return sum_of(lines([NODE], [], book, NOW, span))


def entry(name: str, dollars: int, since: int, written: int, supersedes: str | None = None) -> Entry:
    return Entry(name, H100, Rate.dollars_per_hour(dollars), since, created_at=written, supersedes=supersedes)


def test_months_end_where_the_calendar_says() -> None:
    assert list(months(Span(at(1, 15), at(3, 2)))) == [
        Span(at(1, 15), at(2)),
        Span(at(2), at(3)),
        Span(at(3), at(3, 2)),
    ]


def test_a_correction_of_a_closed_month_is_an_adjustment() -> None:
    book = Book([entry("e1", 10, at(1), at(1)), entry("e2", 12, at(1), at(3, 5), supersedes="e1")])
    found, changed = billed(cost, book, SPRING, NOW)
    hours = [31 * 24, 28 * 24, 31 * 24]
    assert [part.cost.money for part in found] == [
        Money.dollars(10 * hours[0]),
        Money.dollars(10 * hours[1]),
        Money.dollars(12 * hours[2]),  # open when it was written
    ]
    assert changed == [
        Adjustment(at(3, 5), Span(at(1), at(2)), Money.dollars(2 * hours[0])),
        Adjustment(at(3, 5), Span(at(2), at(3)), Money.dollars(2 * hours[1])),
    ]


def test_a_price_that_was_unknown_is_an_adjustment_too() -> None:
    book = Book([entry("e1", 10, at(1), at(2, 2))])
    found, changed = billed(cost, book, Span(at(1), at(2)), NOW)
    assert found[0].cost.money == Money() and found[0].cost.unpriced
    assert [adjustment.money for adjustment in changed] == [Money.dollars(10 * 31 * 24)]


MOMENTS = st.integers(at(1), NOW)
ENTRIES = st.lists(st.tuples(st.integers(0, 50), MOMENTS, MOMENTS, st.booleans()), max_size=5).map(
    lambda found: [
        entry(f"e{number}", dollars, since, written, f"e{number - 1}" if corrects and number else None)
        for number, (dollars, since, written, corrects) in enumerate(found)
    ]
)


@settings(max_examples=50)
@given(ENTRIES)
def test_months_and_adjustments_together_are_what_the_whole_book_says(entries: list[Entry]) -> None:
    book = Book(entries)
    found, changed = billed(cost, book, SPRING, NOW)
    known = sum((part.cost.money.exact for part in found), Fraction(0))
    assert known + sum(adjustment.money.exact for adjustment in changed) == cost(book, SPRING).money.exact


@settings(max_examples=50)
@given(ENTRIES, st.integers(0, 20), MOMENTS)
def test_nothing_that_is_written_later_changes_a_closed_month(
    entries: list[Entry], dollars: int, since: int
) -> None:
    later = entry("later", dollars, since, at(3, 31))
    before, _ = billed(cost, Book(entries), SPRING, NOW)
    after, _ = billed(cost, Book([*entries, later]), SPRING, NOW)
    assert after[:2] == before[:2]
