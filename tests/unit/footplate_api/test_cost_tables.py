"""The parts of time, the groups and the rows in which costs are told."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from footplate_api.costs import csv_format, grouping, rows
from footplate_api.costs.rows import CostKind, CostLine
from footplate_api.costs.steps import MOST, split_window
from footplate_api.errors import Invalid
from footplate_ledger.account import Tariff
from footplate_ledger.cost_sums import CostAggregator
from footplate_ledger.intervals import Interval
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import TOLD, EndTime, PowerProfile
from tests.support.usage_worlds import DAY, H100, HOUR, T0, node, pod


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("begin", "end", "step", "edges"),
    [
        pytest.param("2026-11-25 10:30", "2026-11-25 12:10", None, ["2026-11-25 10:30"], id="none"),
        pytest.param(
            "2026-11-25 10:30",
            "2026-11-25 12:10",
            "hour",
            ["2026-11-25 10:30", "2026-11-25 11:00", "2026-11-25 12:00"],
            id="hours",
        ),
        pytest.param("2026-02-28", "2026-03-02", "day", ["2026-02-28", "2026-03-01"], id="days"),
        pytest.param(
            "2026-11-25", "2026-12-08", "week", ["2026-11-25", "2026-11-30", "2026-12-07"], id="from-monday"
        ),
        pytest.param(
            "2025-12-15", "2026-02-02", "month", ["2025-12-15", "2026-01-01", "2026-02-01"], id="months"
        ),
        pytest.param(
            "2026-11-25 10:30",
            "2026-11-25 13:00",
            "3600",
            ["2026-11-25 10:30", "2026-11-25 11:30", "2026-11-25 12:30"],
            id="seconds-from-the-beginning",
        ),
    ],
)
def test_steps_begin_where_they_should_and_leave_nothing_out(
    begin: str, end: str, step: str | None, edges: list[str]
) -> None:
    window = Interval(at(begin), at(end))
    found = split_window(window, step)
    assert [part.start for part in found] == [at(edge) for edge in edges]
    assert [part.end for part in found] == [*(part.start for part in found[1:]), window.end]


@pytest.mark.parametrize("step", ["", "fortnight", "-60", "59", "1.5", "٣٦٠٠", "9" * 13])
def test_a_step_that_there_is_not_is_named(step: str) -> None:
    with pytest.raises(Invalid, match=r"query\.step: must be hour, day, week, month or"):
        split_window(Interval(0, HOUR), step)


def test_an_answer_has_so_many_steps_and_no_more() -> None:
    assert len(split_window(Interval(0, MOST * 60), "60")) == MOST
    with pytest.raises(Invalid, match="must be longer"):
        split_window(Interval(0, MOST * 60 + 1), "60")


@pytest.mark.parametrize(
    "asked", ["", "namespace,", "label:", "label:a/b/c", "Namespace", ",".join("abcdefg")]
)
def test_a_dimension_that_there_is_not_is_named(asked: str) -> None:
    with pytest.raises(Invalid, match=r"query\.groupBy: must be one or more of namespace, queue, profile"):
        grouping.parse_grouping(asked)


def test_dimensions_keep_their_order_and_their_spelling() -> None:
    found = grouping.parse_grouping("label:x.io/team, owner,capacity")
    assert found.names == ("label:x.io/team", "owner", "capacity")
    assert found.keys == ("x.io/team", ":requested-by")
    assert found.of_idle(H100) == (None, None, "OnDemand")


def told(
    window: Interval, entries: list[PriceBookEntry], now: int, most: int = rows.MOST, **changed: Any
) -> list[CostLine]:
    book = PriceBook(entries)
    cost_sums = CostAggregator(
        Tariff(book), now, rows.edges(window, [window]), rows.BoundedCostSums(window, [window], most=most)
    )
    key = (CostKind.USAGE, ("a",))
    cost_sums.add(node(start=window.start), [pod(**changed)], lambda usage: key, lambda sku: None)
    return rows.build_rows(cost_sums.found, window, [window], book, now, most=most)


def test_a_step_over_two_months_is_told_by_the_book_of_each() -> None:
    border = at("2026-11-01")
    window = Interval(border - HOUR, border + HOUR)
    first = PriceBookEntry("a", H100, HourlyRate.dollars_per_hour(10), 0)
    late = PriceBookEntry(
        "b", H100, HourlyRate.dollars_per_hour(14), 0, created_at=border + 1, supersedes="a"
    )
    used = {"start": window.start, "end": EndTime(TOLD, window.end)}
    usage, adjustment = told(window, [first, late], T0, **used)
    assert (usage.span, usage.dollars) == (window, Decimal("24.0000"))
    assert (adjustment.kind, adjustment.span) == (CostKind.ADJUSTMENT, Interval(window.start, border))
    assert (adjustment.dollars, adjustment.at) == (Decimal("4.0000"), border + 1)
    [before] = told(window, [first], border, **used)  # as it was told when the month ended
    assert before.dollars == Decimal("10.0000")


@pytest.mark.parametrize(("right", "shown"), [("9.9", ["-0.1000"]), ("9.99999", [])])
def test_a_price_that_is_taken_back_lowers_a_closed_month(right: str, shown: list[str]) -> None:
    border = at("2026-11-01")
    window = Interval(border - HOUR, border)
    first = PriceBookEntry("a", H100, HourlyRate.dollars_per_hour(10), 0)
    late = PriceBookEntry(
        "b", H100, HourlyRate.dollars_per_hour(right), 0, created_at=border + 1, supersedes="a"
    )
    _, *changed = told(window, [first, late], T0, start=window.start, end=EndTime(TOLD, window.end))
    assert [str(line.dollars) for line in changed] == shown


def test_there_are_not_too_many_rows() -> None:
    with pytest.raises(Invalid, match=r"query\.groupBy: must give at most 0 rows: use fewer dimensions"):
        told(Interval(T0, T0 + DAY), [], T0 + DAY, most=0)


def many(groups: int, window: Interval, step: str | None) -> rows.BoundedCostSums:
    """Each of so many namespaces has a node of its own for all of the time."""
    parts = split_window(window, step)
    found = rows.BoundedCostSums(window, parts)
    cost_sums = CostAggregator(Tariff(PriceBook([])), window.end, rows.edges(window, parts), found)
    for number in range(groups):
        used = pod(start=window.start, end=EndTime(TOLD, window.end), site=PowerProfile())
        key = (CostKind.USAGE, (f"team-{number}",))
        cost_sums.add(
            node(start=window.start),
            [used],
            lambda usage, key=key: key,
            lambda sku: (CostKind.IDLE, (None,)),
        )
    return found


def test_a_question_of_too_many_rows_takes_no_memory_before_it_is_refused() -> None:
    window = Interval(T0, T0 + 1000 * HOUR)
    assert len(many(20, window, "hour")) == rows.MOST
    tracemalloc.start()
    right = "must give at most 20000 rows: use fewer dimensions, a longer step or a shorter time"
    with pytest.raises(Invalid, match=f"query.groupBy: {right}, not 20001"):
        many(200, window, "hour")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{peak / 2**20:.0f} MiB")
    assert peak < 50 * 2**20


def test_months_of_one_row_are_counted_too() -> None:
    window = Interval(at("2016-11-15"), at("2026-11-15"))
    with pytest.raises(Invalid, match=r"at most 30000 monthly rows: .* or a shorter time, not 30001"):
        many(rows.MOST_COST_SUMS // 121 + 1, window, None)


def test_what_is_shared_out_makes_no_rows() -> None:
    window = Interval(T0, T0 + HOUR)
    cost_sums = CostAggregator(
        Tariff(PriceBook([])),
        window.end,
        rows.edges(window, [window]),
        rows.BoundedCostSums(window, [window], share_idle=True, most=1),
    )
    used = pod(devices=4, start=window.start, end=EndTime(TOLD, window.end))
    cost_sums.add(
        node(), [used], lambda usage: (CostKind.USAGE, ("a",)), lambda sku: (CostKind.IDLE, (None,))
    )
    [line] = rows.build_rows(
        cost_sums.found, window, [window], PriceBook([]), window.end, share_idle=True, most=1
    )
    assert (line.kind, line.idle_node_seconds) == (CostKind.USAGE, Decimal("1800.000"))


def test_what_is_unknown_is_empty_in_a_table_of_text() -> None:
    line = CostLine(CostKind.IDLE, Interval(T0, T0 + HOUR), ("+1", None), None, node_seconds=Decimal("1.500"))
    text = csv_format.table(
        grouping.parse_grouping("namespace,queue"), [line, replace(line, at=T0)], ["x"] * 10
    ).decode()
    _, first, second, end = text.split("\r\n")
    assert first == "idle,2026-11-25T10:00:00Z,2026-11-25T11:00:00Z,,'+1,,,,,1.500,,,,,,"
    assert second.split(",")[3] == "2026-11-25T10:00:00Z" and end == ""


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize(("late", "most"), [(False, 1), (True, 2)])
def test_a_large_book_and_ten_years_take_neither_long_nor_much_memory(
    used: bool, late: bool, most: float
) -> None:
    """1,000 entries and 121 months; if they are late, each changes all months: 120,000 adjustments."""
    window = Interval(at("2016-11-15"), at("2026-11-15"))
    length = (window.end - window.start) // 1000
    entries = [
        PriceBookEntry(
            f"e{number}",
            H100,
            HourlyRate.dollars_per_hour(number % 7),
            window.start if late else window.start + number * length,
            created_at=window.end - 1000 + number if late else window.start + number * length,
            supersedes=f"e{number - 1}" if late and number else None,
        )
        for number in range(1000)
    ]
    book = PriceBook(entries)
    cost_sums = CostAggregator(Tariff(book), window.end, rows.edges(window, [window]))
    if used:
        cost_sums.add(
            node(start=window.start), [], lambda pod: None, lambda sku: (CostKind.IDLE, (sku.profile,))
        )

    def table() -> None:
        with suppress(Invalid):  # more adjustments than an answer has rows
            rows.build_rows(dict(cost_sums.found), window, [window], book, window.end)

    begun = time.thread_time()
    table()
    seconds = time.thread_time() - begun
    tracemalloc.start()
    table()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{seconds:.2f} s, {peak / 2**20:.0f} MiB")
    assert seconds < most and peak < 30 * 2**20
