"""How many rows of which run stay."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import strategies as st

from footplate_api.metrics.retention import Limits, Stock, allowances, every
from tests.support.properties import given

LIMITS = Limits(rows_per_run=1000, full=timedelta(days=10), rows_after=100, kept=timedelta(days=100))


def stock(name: str, rows: int, days: float | None) -> Stock:
    return Stock(name, rows, None if days is None else timedelta(days=days))


@pytest.mark.parametrize(
    ("stocks", "most", "allowed"),
    [
        pytest.param([stock("a", 900, None), stock("b", 900, 1)], None, {}, id="within-the-limits"),
        pytest.param([stock("a", 1001, None)], None, {"a": 1000}, id="a-run-that-trains-has-a-limit"),
        pytest.param([stock("a", 900, 11)], None, {"a": 100}, id="thinned-when-it-is-old"),
        pytest.param([stock("a", 900, 101)], None, {"a": 0}, id="deleted-when-it-is-older"),
        pytest.param(
            [stock("a", 900, None), stock("b", 900, 1), stock("c", 150, 2)],
            1600,
            {"b": 500},
            id="room-first-from-what-has-ended-and-from-the-largest",
        ),
        pytest.param(
            [stock("a", 900, None), stock("b", 900, 1), stock("c", 900, 2)],
            1000,
            {"b": 100, "c": 0},
            id="the-oldest-is-deleted-when-thinning-is-not-enough",
        ),
        pytest.param(
            [stock("a", 900, None), stock("b", 900, 1)],
            300,
            {"a": 200, "b": 0},
            id="one-that-trains-last",
        ),
    ],
)
def test_what_may_stay(stocks: list[Stock], most: int | None, allowed: dict[str, int]) -> None:
    assert allowances(stocks, LIMITS, most) == allowed


STOCKS = st.lists(st.tuples(st.integers(0, 5000), st.none() | st.integers(0, 200)), max_size=8)


@given(STOCKS, st.integers(0, 20_000))
def test_nothing_that_has_ended_is_deleted_before_all_are_thinned_and_nothing_that_trains_at_all(
    drawn: list[tuple[int, int | None]], most: int
) -> None:
    stocks = [stock(str(place), rows, days) for place, (rows, days) in enumerate(drawn)]
    allowed = allowances(stocks, LIMITS, most)
    kept = {known.run_uid: allowed.get(known.run_uid, known.rows) for known in stocks}
    floor = sum(min(known.rows, 100) for known in stocks if known.age is None)
    assert sum(kept.values()) <= max(most, floor)
    assert all(kept[known.run_uid] >= min(known.rows, 100) for known in stocks if known.age is None)
    young = [known for known in stocks if known.age is not None and known.age <= LIMITS.kept]
    if any(known.rows and not kept[known.run_uid] for known in young):
        assert all(kept[known.run_uid] <= 100 for known in young)


@given(st.integers(1, 10**7), st.integers(1, 10**5))
def test_multiples_that_stay_fit(rows: int, keep: int) -> None:
    multiple = every(rows, keep)
    assert multiple is not None and rows // multiple <= keep
    assert multiple == 1 or rows > keep
