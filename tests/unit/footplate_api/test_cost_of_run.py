"""What one run has cost, from what was added up: by attempt, and with few sums."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest

from footplate_api.costs import run_cost
from footplate_api.costs.run_cost import CostedRun, RunTimeline
from footplate_api.costs.schemas import RunCost
from footplate_ledger.account import Tariff
from footplate_ledger.conversion import parse_time
from footplate_ledger.cost_sums import CostAggregator
from footplate_ledger.intervals import Interval
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import RUNNING, EndTime, PodAllocation
from tests.support.usage_worlds import DAY, H100, HOUR, T0, node, pod


def told(
    pods: Sequence[PodAllocation], attempts: Sequence[tuple[int, int]], now: int, checkpoints: int = 0
) -> RunCost:
    """Each pod has a node of its own."""
    tariff = Tariff(PriceBook([PriceBookEntry("e", H100, HourlyRate.dollars_per_hour(36), 0)]))
    used = RunTimeline({known.node: known.span(now) for known in pods}, attempts, now)
    cost_sums = CostAggregator(tariff, now, used.edges)
    for known in pods:
        cost_sums.add(node(known.node, start=known.start), [known], used.key, lambda sku: None)
    return run_cost.build_run_cost(
        CostedRun("a", "r", "u", 0, checkpoints, [], {}), used, cost_sums.found, tariff.book, None
    )


@pytest.mark.parametrize(("checkpoints", "dollars"), [(0, None), (9000, 0.004), (10_000, None)])
def test_what_a_checkpoint_cost_is_not_known_where_some_are_forgotten(
    checkpoints: int, dollars: float | None
) -> None:
    ratio = told([pod("p", node="n")], [(1, T0)], T0 + HOUR, checkpoints).per_checkpoint
    assert (None if ratio is None else ratio.dollars) == dollars


def test_many_attempts_of_many_pods_take_little_memory() -> None:
    attempts = [(number + 1, T0 + number * HOUR) for number in range(100)]
    pods = [pod(f"p{n}", node=f"n{n}", end=EndTime(RUNNING, T0)) for n in range(100)]
    tracemalloc.start()
    found = told(pods, attempts, T0 + 100 * HOUR)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{peak / 2**20:.1f} MiB")
    assert [part.node_seconds for part in found.attempts] == [100 * HOUR] * 100
    assert peak < 2 * 2**20


def test_parts_are_of_the_attempt_that_trained_in_them() -> None:
    start = parse_time("2026-10-31T23:00:00Z")
    attempts = [(3, start + 60), (4, start + 2 * HOUR)]
    running = EndTime(RUNNING, start)
    pods = [
        pod("p1", attempt=3, start=start, end=running),
        pod("p2", attempt=4, node="n2", start=start + HOUR, end=running),
    ]
    found = told(pods, attempts, start + 3 * HOUR)
    assert [(part.attempt, part.node_seconds) for part in found.attempts] == [(3, 3 * HOUR), (4, 2 * HOUR)]
    assert [month.dollars for month in found.months] == [36.0, 144.0]
    unknown = told(pods, [], start + 3 * HOUR)
    assert [(part.attempt, part.node_seconds) for part in unknown.attempts] == [(3, 3 * HOUR), (4, 2 * HOUR)]


def test_months_have_the_parts_that_lie_in_them() -> None:
    start = parse_time("2026-10-31T00:00:00Z")
    attempts = [(1, start), (2, start + HOUR), (3, start + 2 * DAY)]
    used = RunTimeline({"n1": Interval(start, start + 3 * DAY)}, attempts, start + 3 * DAY)
    assert [list(places) for _, places in used.months()] == [[0, 1], [2, 3]]
    assert [used.attempt((0, False), place) for place in range(4)] == [1, 2, 2, 3]
    assert RunTimeline({}, attempts, start).months() == []
