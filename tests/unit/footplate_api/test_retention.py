"""How many rows of which run stay."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import strategies as st

from footplate_api.metrics.retention import RetentionLimits, RunRows, row_limits, thinning_stride
from tests.support.properties import given

LIMITS = RetentionLimits(rows_per_run=1000, full=timedelta(days=10), rows_after=100, kept=timedelta(days=100))


def stock(name: str, rows: int, days: float | None, namespace: str = "one") -> RunRows:
    return RunRows(name, rows, None if days is None else timedelta(days=days), namespace)


def kept(stocks: list[RunRows], most: int, limits: RetentionLimits = LIMITS) -> dict[str, int]:
    """Rows that each run keeps."""
    allowed = row_limits(stocks, limits, most)
    return {known.run_uid: allowed.get(known.run_uid, known.rows) for known in stocks}


@pytest.mark.parametrize(
    ("stocks", "most", "allowed"),
    [
        pytest.param([stock("a", 900, None), stock("b", 900, 1)], None, {}, id="within-the-limits"),
        pytest.param([stock("a", 1001, None)], None, {"a": 1000}, id="a-run-that-trains-has-a-limit"),
        pytest.param([stock("a", 900, 11)], None, {"a": 100}, id="thinned-when-it-is-old"),
        pytest.param([stock("a", 900, 101)], None, {"a": 0}, id="deleted-when-it-is-older"),
        pytest.param(
            [stock("a", 900, None), stock("b", 40, 1), stock("c", 300, None)],
            1000,
            {"a": 660},
            id="the-longest-history-makes-room",
        ),
        pytest.param(
            [stock("a", 900, None), stock("b", 900, 1)],
            990,
            {"b": 90},
            id="an-ended-run-has-a-tenth-of-one-that-trains",
        ),
        pytest.param(
            [stock("a", 900, 2), stock("b", 900, 1)],
            1000,
            {"a": 500, "b": 500},
            id="ended-runs-alone-have-all-the-room",
        ),
        pytest.param(
            [stock("a", 900, None, "one"), stock("b", 900, 1, "two"), stock("c", 200, 1, "three")],
            1200,
            {"a": 500, "b": 500},
            id="what-one-namespace-does-not-need-is-the-others",
        ),
    ],
)
def test_what_may_stay(stocks: list[RunRows], most: int | None, allowed: dict[str, int]) -> None:
    assert row_limits(stocks, LIMITS, most) == allowed


@pytest.mark.parametrize(
    "namespaces",
    [
        pytest.param(("one", "one"), id="of-one-namespace"),
        pytest.param(("one", "two"), id="of-two-namespaces"),
    ],
)
def test_ended_runs_that_fit_stay_beside_long_live_ones(namespaces: tuple[str, str]) -> None:
    lives = [stock(f"live-{number}", 10**6, None, namespaces[0]) for number in range(8)]
    ended = [stock(f"ended-{number}", 8000, 1 + number / 10, namespaces[1]) for number in range(100)]

    left = kept(lives + ended, 7_400_000, RetentionLimits())

    assert all(left[known.run_uid] == 8000 for known in ended)
    assert all(left[known.run_uid] >= 800_000 for known in lives)
    assert sum(left.values()) <= 7_400_000


def test_one_namespace_does_not_take_another_ones_room() -> None:
    flood = [stock(f"flood-{number}", 1000, None, "flood") for number in range(1000)]
    theirs = [stock(f"run-{number}", 100, 300 * number, "quiet") for number in range(2)]

    left = kept([*flood, *theirs], 10_000, RetentionLimits(kept=timedelta(days=1000)))

    assert [left["run-0"], left["run-1"]] == [100, 100]


NAMESPACES = st.sampled_from(["one", "two", "three"])
STOCKS = st.lists(st.tuples(st.integers(0, 5000), st.none() | st.integers(0, 200), NAMESPACES), max_size=8)


@given(STOCKS, st.integers(0, 20_000))
def test_what_stays_fits_and_is_shared(drawn: list[tuple[int, int | None, str]], most: int) -> None:
    stocks = [stock(str(place), *of_run) for place, of_run in enumerate(drawn)]
    wanted, left = kept(stocks, 10**9), kept(stocks, most)
    assert sum(left.values()) <= most or left == wanted
    namespaces = {known.namespace for known in stocks}
    for namespace in namespaces:
        own = [known.run_uid for known in stocks if known.namespace == namespace]
        remainder = len(own)  # rows that are too few for one more of each run
        fair = min(sum(wanted[run] for run in own), most // len(namespaces))
        assert sum(left[run] for run in own) >= fair - remainder
        cut = [left[run] for run in own if left[run] < wanted[run]]
        if any(cut):
            assert all(left[run] for run in own if wanted[run])
            assert all(left[run] <= 10 * max(cut) for run in own)


@given(st.integers(1, 10**7), st.integers(1, 10**5))
def test_multiples_that_stay_fit(rows: int, keep: int) -> None:
    multiple = thinning_stride(rows, keep)
    assert multiple is not None and rows // multiple <= keep
    assert multiple == 1 or rows > keep
