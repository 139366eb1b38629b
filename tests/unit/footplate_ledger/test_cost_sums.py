"""Very many pods are added up as few are: the same amounts, to the last digit."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import strategies as st

from footplate_contracts.names import Role
from footplate_ledger.account import Account, Tariff
from footplate_ledger.cost_sums import CostAggregator
from footplate_ledger.exact_sum import ExactSum
from footplate_ledger.intervals import Interval
from footplate_ledger.prices import PriceBook
from footplate_ledger.units import rounded
from tests.support.ledger_reference import IDLE, build_accounts
from tests.support.properties import given
from tests.support.usage_worlds import DAY, SERIES, T0, World, world

NOW = T0 + 45 * DAY


def tallied(made: World, edges: list[int]) -> CostAggregator:
    """Every pod for itself."""
    found = CostAggregator(Tariff(made.book, SERIES), NOW, edges)
    told = {node.uid: node for node in made.nodes}
    for uid in {pod.node for pod in made.pods} | told.keys():
        on = [pod for pod in made.pods if pod.node == uid]
        found.add(told.get(uid), on, lambda pod: pod.uid, lambda sku: IDLE)
    return found


@pytest.mark.parametrize("seed", range(25))
def test_each_pod_has_in_each_part_of_time_what_its_account_says(seed: int) -> None:
    chance = random.Random(seed)
    made = world(chance)
    edges = sorted({T0 + chance.randrange(-2 * DAY, 50 * DAY) for _ in range(4)})
    found = tallied(made, edges).found
    for slot, window in enumerate(pairwise(edges)):
        said = build_accounts(made.nodes, made.pods, Tariff(made.book, SERIES), NOW, Interval(*window))
        got = {uid: cost_sum.account(made.book) for (uid, at), cost_sum in found.items() if at == slot}
        nothing = Account()
        for uid in said.keys() | got.keys():
            assert got.get(uid, nothing) == said.get(uid, nothing), (uid, window)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_grouped_is_the_sum_of_its_pods(seed: int) -> None:
    made = world(random.Random(seed))
    edges = [T0 - DAY, NOW]
    alone, together = tallied(made, edges), CostAggregator(Tariff(made.book, SERIES), NOW, edges)
    told = {node.uid: node for node in made.nodes}
    for uid in {pod.node for pod in made.pods}:
        on = [pod for pod in made.pods if pod.node == uid]
        together.add(told.get(uid), on, lambda pod: pod.owner.namespace, lambda sku: None)
    namespaces = {pod.uid: pod.owner.namespace for pod in made.pods}
    for namespace in set(namespaces.values()):
        parts = [
            cost_sum.account(made.book)
            for (uid, _), cost_sum in alone.found.items()
            if namespaces.get(str(uid)) == namespace
        ]
        assert together.found[namespace, 0].account(made.book) == sum(parts, Account())
    assert (IDLE, 0) not in together.found


@pytest.mark.parametrize("seed", range(5))
def test_an_earlier_state_of_the_book_is_seen_in_the_same_pass(seed: int) -> None:
    made = world(random.Random(seed))
    before = PriceBook([entry for entry in made.entries if entry.created_at <= T0 + 20 * DAY])
    found = tallied(made, [T0, NOW]).found
    said = build_accounts(made.nodes, made.pods, Tariff(before, SERIES), NOW, Interval(T0, NOW))
    roles = {pod.uid: pod.role for pod in made.pods}
    for (uid, _), cost_sum in found.items():
        if roles.get(str(uid)) is not Role.COORDINATOR:
            assert cost_sum.account(before).cost == said[str(uid)].cost


@given(
    st.lists(st.tuples(st.integers(0, 10**20), st.integers(1, 10**9)), max_size=40),
    st.fractions(Fraction(1, 1000), 10**10),
    st.integers(0, 9),
    examples=200,
)
def test_a_sum_is_rounded_as_if_it_were_one_fraction(
    parts: list[tuple[int, int]], unit: Fraction, digits: int
) -> None:
    found = ExactSum()
    for numerator, denominator in parts:
        found.add(numerator, denominator)
    whole = sum((Fraction(*part) for part in parts), Fraction(0))
    assert found.exact == whole
    assert found.to_decimal(unit, digits) == rounded(whole / unit, digits)


@pytest.mark.parametrize(("off", "shown"), [(0, "0.2"), (1, "0.3"), (-1, "0.2")])
def test_a_half_goes_to_the_even_one_and_what_is_hardly_more_does_not(off: int, shown: str) -> None:
    found = ExactSum()
    for denominator in range(3, 30):  # together nothing
        found.add(1, denominator)
        found.add(-1, denominator)
    for denominator in (8, 12, 24):  # a quarter
        found.add(1, denominator)
    found.add(off, 10**100)  # less than quotients that are near tell apart
    for denominator in range(31, 60):
        found.add(0, denominator)
    assert found.to_decimal(1, 1) == Decimal(shown)
