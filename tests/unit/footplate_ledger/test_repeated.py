"""What is remembered of earlier accounts changes no amount, and saves what is over."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from footplate_ledger.account import Account, Tariff
from footplate_ledger.cost_cache import RunCostCache
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate, Seconds
from footplate_ledger.usage import RUNNING, TOLD, EndTime, NodeLifetime, PodAllocation
from tests.support.ledger_reference import build_accounts
from tests.support.usage_worlds import CPU, DAY, H100, SERIES, T0, World, pod, world


def plain(
    pods: Sequence[PodAllocation], nodes: Sequence[NodeLifetime], run: str, tariff: Tariff, at: int
) -> Account:
    """What a run has cost, with nothing remembered."""
    found = build_accounts(nodes, pods, tariff, at)
    return sum((found.get(pod.uid, Account()) for pod in pods if pod.owner.uid == run), Account())


def remembered(
    known: RunCostCache,
    pods: Sequence[PodAllocation],
    nodes: Sequence[NodeLifetime],
    run: str,
    tariff: Tariff,
    at: int,
) -> Callable[[int], Account]:
    own = [pod for pod in pods if pod.owner.uid == run]
    return known.of(own, [pod for pod in pods if pod.owner.uid != run], nodes, tariff, at)


def changed(chance: random.Random, made: World) -> None:
    """Something is told otherwise: an end, a start, a pod that comes, a node, a price."""
    at = chance.randrange(len(made.pods))
    old = made.pods[at]
    end = EndTime(chance.choice([RUNNING, 1, TOLD]), old.start + chance.randrange(1, 12 * DAY))
    what = chance.randrange(5)
    if what == 0:
        made.pods[at] = replace(old, end=end)
    elif what == 1:
        begins = chance.choice([other.end.until for other in made.pods])  # as another one ends
        uid, sku = f"{old.uid}-{len(made.pods)}-{begins}", chance.choice([old.sku, CPU])
        made.pods.append(replace(old, uid=uid, sku=sku, start=begins, end=EndTime(RUNNING, begins)))
    elif what == 2:
        place = chance.randrange(len(made.nodes))
        made.nodes[place] = replace(made.nodes[place], devices=chance.choice([4, 8]))
    elif what == 3:
        place = chance.randrange(len(made.entries))
        rate = HourlyRate(Fraction(chance.randrange(10**11)))
        made.entries[place] = replace(made.entries[place], rate=rate, supersedes=None)
    else:
        made.pods.pop(at)


@pytest.mark.parametrize("seed", range(40))
def test_the_amounts_are_those_of_an_account_that_remembers_nothing(seed: int) -> None:
    chance = random.Random(seed)
    made, known = world(chance, runs=2, nodes=7, pods=24), RunCostCache()
    tariff = Tariff(made.book, SERIES)
    for _ in range(6):
        at = T0 + chance.randrange(0, 45 * DAY)
        account_from = remembered(known, made.pods, made.nodes, "uid-0", tariff, at)
        for second in (at, at + 1, at + chance.randrange(1, 9 * DAY)):
            assert account_from(second) == plain(made.pods, made.nodes, "uid-0", tariff, second)
        entries = list(made.entries)
        changed(chance, made)
        if made.entries != entries:
            tariff = Tariff(made.book, SERIES)


@pytest.mark.parametrize("gap", [0, 1])
def test_where_only_pods_tell_of_a_node_what_is_over_is_apart_from_what_begins_as_it_ends(gap: int) -> None:
    first = pod("p1", end=EndTime(TOLD, T0 + DAY))
    then = pod("p2", sku=CPU, start=T0 + DAY + gap, end=EndTime(RUNNING, 0))
    tariff, at = Tariff(PriceBook([PriceBookEntry("e", H100, HourlyRate(Fraction(10**9)), 0)])), T0 + 2 * DAY
    found = remembered(RunCostCache(), [first, then], [], first.owner.uid, tariff, at)(at)
    assert found == plain([first, then], [], first.owner.uid, tariff, at)
    assert found.cost.unpriced == Seconds(Fraction(DAY - gap)), "its sku are its own"
