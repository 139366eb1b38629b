"""What nobody held is shared out, and nothing of it is lost or made."""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction

import pytest

from footplate_ledger import idle
from footplate_ledger.account import Tariff
from footplate_ledger.cost_sums import CostAggregator, CostSum, Key
from footplate_ledger.usage import TOLD, EndTime, Owner
from tests.support.ledger_reference import IDLE
from tests.support.usage_worlds import CPU, DAY, H100, HOUR, SPOT, T0, World, node, pod, world

NOW = T0 + 45 * DAY
Found = Mapping[tuple[Key, int], CostSum]


def tallied(made: World, edges: list[int]) -> Found:
    """By owner, and idle by SKU."""
    found = CostAggregator(Tariff(made.book), NOW, edges)
    told = {there.uid: there for there in made.nodes}
    for uid in {used.node for used in made.pods} | told.keys():
        on = [used for used in made.pods if used.node == uid]
        found.add(told.get(uid), on, lambda used: used.owner.uid, lambda sku: (IDLE, sku.profile))
    return found.found


def run(uid: str) -> Owner:
    return Owner("TrainingRun", "team", f"run-{uid}", uid)


def is_idle(key: Key) -> bool:
    return isinstance(key, tuple)


def together(found: Found) -> dict[object, Fraction]:
    """Seconds of a node by part of time and period: held, and idle in whichever way."""
    sums: dict[object, Fraction] = {}
    for (_, at), cost_sum in found.items():
        for held in (cost_sum.paid, cost_sum.idle):
            for period, seconds in held.seconds.items():
                place = at, period.sku, period.since
                sums[place] = sums.get(place, Fraction(0)) + seconds.exact
    return sums


@pytest.mark.parametrize("seed", range(10))
def test_all_of_it_is_there_and_nobody_else_has_it(seed: int) -> None:
    made = world(random.Random(seed))
    edges = [T0 - DAY, T0 + 5 * DAY, T0 + 20 * DAY, NOW]
    apart, shared = tallied(made, edges), tallied(made, edges)
    idle.share_idle_time(shared, is_idle)
    assert together(shared) == together(apart)
    held = {
        (at, period.sku, period.since)
        for (key, at), cost_sum in shared.items()
        for period, seconds in cost_sum.paid.seconds.items()
        if seconds and not is_idle(key)
    }
    for (key, at), cost_sum in shared.items():
        if is_idle(key):
            assert not {(at, left.sku, left.since) for left in cost_sum.paid.seconds} & held
            assert not cost_sum.idle.seconds


def test_it_goes_by_how_much_each_held_and_only_to_whom_held_such_a_node() -> None:
    over = EndTime(TOLD, T0 + HOUR)
    nodes = [
        node("n1", end=over),
        node("n2", end=over),
        node("n3", sku=SPOT, end=over),
        node("n4", sku=CPU, end=over),
    ]
    pods = [
        pod("p1", owner=run("a"), devices=4),
        pod("p2", owner=run("b"), node="n2", devices=2),
        pod("p3", owner=run("c"), node="n3", sku=SPOT),
    ]
    found = tallied(World(nodes, pods, []), [T0, T0 + HOUR])
    idle.share_idle_time(found, is_idle)
    shares = {
        key: {period.sku: seconds.exact / HOUR for period, seconds in cost_sum.idle.seconds.items()}
        for (key, _), cost_sum in found.items()
        if not is_idle(key)
    }
    assert shares == {
        "a": {H100: Fraction(5, 6)},
        "b": {H100: Fraction(5, 12)},
        "c": {},
    }
    left = {key: [period.sku for period in cost_sum.paid.seconds] for (key, _), cost_sum in found.items()}
    assert left[IDLE, "local-cpu"] == [CPU] and left[IDLE, "h100"] == []
