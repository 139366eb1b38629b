"""A closed month says what it said; later entries are adjustments with their own date."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

from hypothesis import strategies as st

from footplate_ledger.account import Cost, Tariff
from footplate_ledger.adjustments import ClosedMonthPrices, split_by_month, sum_adjustments
from footplate_ledger.cost_sums import CostAggregator
from footplate_ledger.intervals import Interval, month_end
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate, Money
from footplate_ledger.usage import RUNNING, EndTime, NodeLifetime, Sku
from tests.support.ledger_reference import bill_lines
from tests.support.properties import given
from tests.support.usage_worlds import sum_of


def at(month: int, day: int = 1) -> int:
    return int(datetime(2026, month, day, tzinfo=UTC).timestamp())


REGIONS = ("", "eu-1")
H100 = Sku("h100", region="eu-1")
NODE = NodeLifetime("n", "n", H100, at(1), EndTime(RUNNING, at(1)), devices=8)
SPRING = Interval(at(1), at(4))
NOW = at(4)
Adjustment = tuple[int, Interval, Money]


def cost(book: PriceBook, span: Interval) -> Cost:
    return sum_of(bill_lines([NODE], [], book, NOW, span))


def billed(book: PriceBook, window: Interval, now: int = NOW) -> tuple[list[Cost], list[Adjustment]]:
    """The months of `window` as they were closed, and what was changed about them later."""
    parts = list(split_by_month(window))
    cost_sums = CostAggregator(Tariff(book), now, [window.start, *(part.end for part in parts)])
    cost_sums.add(NODE, (), lambda pod: None, lambda sku: "idle")
    costs, changed = [], []
    for place, part in enumerate(parts):
        cost_sum, closing = cost_sums.found["idle", place], ClosedMonthPrices(book, part, now)
        costs.append(cost_sum.priced(closing).cost())
        for second, dearer in sum_adjustments([cost_sum], closing).items():
            if dearer.exact:
                changed.append((second, part, Money(dearer.exact)))
    return costs, sorted(changed, key=lambda change: change[:2])


def entry(
    name: str, dollars: int, since: int, written: int, supersedes: str | None = None, region: str = ""
) -> PriceBookEntry:
    sku, rate = Sku("h100", region=region), HourlyRate.dollars_per_hour(dollars)
    return PriceBookEntry(name, sku, rate, since, created_at=written, supersedes=supersedes)


def test_months_end_where_the_calendar_says() -> None:
    assert list(split_by_month(Interval(at(1, 15), at(3, 2)))) == [
        Interval(at(1, 15), at(2)),
        Interval(at(2), at(3)),
        Interval(at(3), at(3, 2)),
    ]


def test_a_correction_of_a_closed_month_is_an_adjustment() -> None:
    book = PriceBook([entry("e1", 10, at(1), at(1)), entry("e2", 12, at(1), at(3, 5), supersedes="e1")])
    found, changed = billed(book, SPRING)
    hours = [31 * 24, 28 * 24, 31 * 24]
    assert [part.money for part in found] == [
        Money.dollars(10 * hours[0]),
        Money.dollars(10 * hours[1]),
        Money.dollars(12 * hours[2]),  # open when it was written
    ]
    assert changed == [
        (at(3, 5), Interval(at(1), at(2)), Money.dollars(2 * hours[0])),
        (at(3, 5), Interval(at(2), at(3)), Money.dollars(2 * hours[1])),
    ]


def test_a_price_that_was_unknown_is_an_adjustment_too() -> None:
    book = PriceBook([entry("e1", 10, at(1), at(2, 2))])
    found, changed = billed(book, Interval(at(1), at(2)))
    assert found[0].money == Money() and found[0].unpriced
    assert [money for _, _, money in changed] == [Money.dollars(10 * 31 * 24)]


def test_in_a_month_that_is_open_what_a_clock_that_is_ahead_wrote_counts() -> None:
    book = PriceBook([entry("e1", 10, at(1), at(1)), entry("e2", 12, at(2), at(2, 15) + 3)])
    found, changed = billed(book, Interval(at(2), at(2, 15)), now=at(2, 15))
    assert [part.money for part in found] == [Money.dollars(12 * 14 * 24)] and changed == []


MOMENTS = st.integers(at(1), NOW)
DAYS = st.integers(0, 90).map(lambda days: at(1) + days * 86400)
ENTRIES = st.lists(
    st.tuples(
        st.integers(0, 50), MOMENTS | DAYS, MOMENTS | DAYS, st.integers(-4, 8), st.sampled_from(REGIONS)
    ),
    max_size=8,
).map(
    lambda found: [
        entry(f"e{number}", dollars, since, written, f"e{other}" if other >= 0 else None, region)
        for number, (dollars, since, written, other, region) in enumerate(found)
    ]
)


@given(ENTRIES, examples=200)
def test_a_closed_month_is_what_the_book_said_then_and_each_change_what_it_said_before(
    entries: list[PriceBookEntry],
) -> None:
    def known(moment: int, month: Interval) -> Money:
        return cost(PriceBook([entry for entry in entries if entry.created_at <= moment]), month).money

    found, changed = billed(PriceBook(entries), SPRING)
    for month, part in zip(split_by_month(SPRING), found, strict=True):
        closed = month_end(month.start)
        assert part.money == known(closed, month)
        later = sorted({entry.created_at for entry in entries if entry.created_at > closed})
        states = [known(moment, month) for moment in [closed, *later]]
        assert [change for change in changed if change[1] == month] == [
            (moment, month, after - before)
            for moment, before, after in zip(later, states, states[1:], strict=False)
            if after != before
        ]
    known_now = sum((part.money.exact for part in found), Fraction(0))
    assert (
        known_now + sum(money.exact for _, _, money in changed)
        == cost(PriceBook(entries), SPRING).money.exact
    )


@given(ENTRIES, st.integers(0, 20), MOMENTS, examples=50)
def test_nothing_that_is_written_later_changes_a_closed_month(
    entries: list[PriceBookEntry], dollars: int, since: int
) -> None:
    later = entry("later", dollars, since, at(3, 31))
    before, _ = billed(PriceBook(entries), SPRING)
    after, _ = billed(PriceBook([*entries, later]), SPRING)
    assert [part.money for part in after[:2]] == [part.money for part in before[:2]]
