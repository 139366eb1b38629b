"""Which part of a history is shown, and how dense."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from footplate_api.metrics.history import buckets, clipped, count_rows, page_end, pages, stride
from footplate_api.metrics.step_ranges import Extents, Segment, SegmentRange, effective_ranges, merge_steps
from tests.support.properties import given

ONE = Segment(1, 1, 1, 1, 25)
TWO = Segment(2, 1, 2, 11, 40)
EXTENTS = Extents({1: [(1, 25)], 2: [(11, 20), (31, 40)]})


def part(segment: Segment, first: int, last: int) -> SegmentRange:
    return SegmentRange(segment, first, last)


def test_a_part_is_cut_at_both_ends() -> None:
    history = effective_ranges([ONE, TWO])
    assert clipped(history, 5, 12) == [part(ONE, 5, 10), part(TWO, 11, 12)]
    assert clipped(history, 35, None) == [part(TWO, 35, 40)]
    assert clipped(history, 41, None) == []


def test_rows_are_counted_by_extents() -> None:
    history = effective_ranges([ONE, TWO])
    counted = [count_rows(clipped(history, 0, last), EXTENTS) for last in (5, 10, 15, 30, 40)]
    assert counted == [5, 10, 15, 20, 30]


@pytest.mark.parametrize(
    ("limit", "end"),
    [
        pytest.param(10, 10, id="the-first-generation"),
        pytest.param(15, 15, id="and-half-of-the-next"),
        pytest.param(25, 35, id="beyond-a-hole"),
        pytest.param(100, 40, id="all"),
    ],
)
def test_a_page_ends_where_its_rows_are_full(limit: int, end: int) -> None:
    assert page_end(effective_ranges([ONE, TWO]), EXTENTS, limit) == end


def test_a_page_ends_where_no_more_is_known() -> None:
    known = Extents({1: [(1, 25)], 2: [(11, 20)]}, known=30)
    assert page_end(effective_ranges([ONE, TWO]), known, 100) == 30
    assert page_end(effective_ranges([ONE, TWO]), known, 15) == 15


def test_of_one_step_there_may_be_more_rows_than_a_page_has() -> None:
    many = [Segment(number, 1, number, 5, 6) for number in range(30)]
    extents = Extents({number: [(5, 6)] for number in range(30)})
    assert page_end([part(known, 5, 6) for known in many], extents, 10) == 5


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12, unique=True), min_size=1, max_size=5))
def test_a_page_is_as_long_as_it_may_be(generations: list[list[int]]) -> None:
    extents = Extents({number: merge_steps([], steps) for number, steps in enumerate(generations)})
    parts = [part(Segment(n, 1, n, min(of), max(of)), min(of), max(of)) for n, of in enumerate(generations)]
    steps = sorted(step for of in generations for step in of)
    for limit in (1, 3, 10):
        end = page_end(parts, extents, limit)
        assert sum(step <= end for step in steps) <= limit or end == steps[0]
        assert end == steps[-1] or sum(step <= end + 1 for step in steps) > limit


def test_buckets_end_with_multiples_and_with_the_history() -> None:
    assert buckets([part(ONE, 1, 11)], 4, 100) == ([(1, 1, 4), (1, 5, 8), (1, 9, 11)], None)
    assert buckets([part(ONE, 3, 8)], 4, 100) == ([(1, 3, 4), (1, 5, 8)], None)


def test_a_bucket_that_two_generations_share_shows_the_later_rows() -> None:
    assert buckets([part(ONE, 1, 10), part(TWO, 11, 14)], 4, 100) == (
        [(1, 1, 4), (1, 5, 8), (2, 11, 12), (2, 13, 14)],
        None,
    )


def test_buckets_beyond_the_limit_are_for_the_next_page() -> None:
    assert buckets([part(ONE, 1, 25)], 4, 3) == ([(1, 1, 4), (1, 5, 8), (1, 9, 12)], 13)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(10, 50_000))
def test_thinning_keeps_within_the_limit(first: int, length: int, limit: int) -> None:
    last = first + length
    every = stride(first, last, limit)
    multiples = last // every - (first - 1) // every
    assert multiples + (last % every != 0) <= limit


@pytest.mark.parametrize("limit", [1, 3, 7, 1000])
def test_pages_are_all_of_it_in_order_and_none_too_long(limit: int) -> None:
    whole = effective_ranges([ONE, TWO])
    found = list(pages(whole, EXTENTS, limit))
    assert all(count_rows(page, EXTENTS) <= limit for page in found)
    assert sum(count_rows(page, EXTENTS) for page in found) == count_rows(whole, EXTENTS)
    ends = [max(part.last for part in page) for page in found]
    assert ends == sorted(set(ends))
