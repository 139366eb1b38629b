"""What a budget asks for at which amount, and when it is looked at again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.budget import Budget
from footplate_ledger.account import Account, Tariff, accounts
from footplate_ledger.prices import Book, Entry
from footplate_ledger.units import Power, Rate
from footplate_ledger.usage import TOLD, Evidence, Goods, NodeUsage, Owner, PodUsage, Site
from footplate_operator.runtime.conditions import condition
from footplate_operator.trainingrun.policies.budget import LONGEST_LOOK, Level, Spending, event, spending
from tests.support.fake_cluster import Clock

H100 = Goods("h100")
CENT_A_SECOND = Rate.dollars_per_hour(36)
KILOWATT = Power(Fraction(1000))
NODE = NodeUsage("n1", "n1", H100, 0, Evidence(0, 0), devices=8)
POD = PodUsage("p1", Owner("TrainingRun", "a", "b", "u"), Role.WORKER, 1, "n1", H100, 0, Evidence(0, 0), 8)


def account_at(*prices: Entry, pod: PodUsage = POD) -> Callable[[int], Account]:
    """Of one pod that has a whole node from second 0 on, at a cent a second unless prices say otherwise."""
    tariff = Tariff(Book(prices or [Entry("e", H100, CENT_A_SECOND, 0)]))
    return lambda at: accounts([NODE], [pod], tariff, at).get("p1", Account())


def budget(**said: Any) -> Budget:
    return Budget.from_json(said)


@pytest.mark.parametrize(
    ("at", "level", "status", "reason", "exceeded", "look"),
    [
        pytest.param(0, Level.WITHIN, True, "WithinBudget", "", LONGEST_LOOK, id="begins"),
        pytest.param(700, Level.WITHIN, True, "WithinBudget", "", 100, id="until-80-percent"),
        pytest.param(799, Level.WITHIN, True, "WithinBudget", "", 1, id="last-second"),
        pytest.param(800, Level.NEARLY, True, "BudgetNearlySpent", "", 200, id="80-percent"),
        pytest.param(999, Level.NEARLY, True, "BudgetNearlySpent", "", 1, id="nearly-all"),
        pytest.param(
            1000, Level.EXCEEDED, False, "BudgetExceeded", "budget.dollars 10 is spent", None, id="all"
        ),
        pytest.param(
            5000, Level.EXCEEDED, False, "BudgetExceeded", "budget.dollars 10 is spent", None, id="more"
        ),
    ],
)
def test_ten_dollars_at_a_cent_a_second(
    at: int, level: Level, status: bool, reason: str, exceeded: str, look: int | None
) -> None:
    found = spending(budget(dollars=10), account_at(), at)
    said = found.condition
    assert (found.level, said.holds, said.reason, found.exceeded, found.look_after) == (
        level,
        status,
        reason,
        exceeded,
        look,
    )


def test_warn_says_it_and_suspends_nothing() -> None:
    found = spending(budget(dollars=10, onExceeded="Warn"), account_at(), 1000)
    assert (found.condition.holds, found.exceeded, found.look_after) == (False, "", None)
    assert found.condition.message == "budget.dollars 10 is spent; the run goes on (onExceeded: Warn)"


def test_carbon_has_a_limit_of_its_own_and_the_worse_of_two_counts() -> None:
    pod = replace(POD, site=Site(device=KILOWATT, grams=Fraction(450)))  # 3.6 kg an hour: a gram a second
    at = account_at(pod=pod)
    assert spending(budget(carbonKilograms=1), at, 999).look_after == 1
    both = spending(budget(carbonKilograms=1, dollars=100), at, 1000)
    assert (both.level, both.exceeded) == (Level.EXCEEDED, "budget.carbonKilograms 1 is spent")
    assert both.note == "1.000 kg are spent, 100 % of budget.carbonKilograms 1"
    assert spending(budget(carbonKilograms=100, dollars=9), at, 1000).exceeded == "budget.dollars 9 is spent"


@pytest.mark.parametrize(
    ("at", "status", "reason"),
    [
        pytest.param(10, None, "PriceUnknown", id="little-is-known"),
        pytest.param(850, None, "BudgetNearlySpent", id="nearly-all-is-known"),
        pytest.param(1000, False, "BudgetExceeded", id="what-is-known-is-too-much"),
    ],
)
def test_what_has_no_price_is_not_spent_and_not_nothing(at: int, status: bool | None, reason: str) -> None:
    """The price was said from the sixth second on."""
    found = spending(budget(dollars=9.95), account_at(Entry("e", H100, CENT_A_SECOND, 5)), at)
    assert (found.condition.holds, found.condition.reason) == (status, reason)
    assert ("state price in their ComputeProfile" in found.condition.message) == (status is None)


def test_a_pod_without_a_price_is_doubtful_from_its_first_second_on() -> None:
    at = account_at(Entry("other", Goods("a100"), CENT_A_SECOND, 0))
    found = spending(budget(dollars=1), at, 0)
    assert (found.condition.holds, found.condition.reason) == (None, "PriceUnknown")
    late = spending(budget(dollars=1), at, 10**7)
    assert (late.level, late.exceeded) == (Level.WITHIN, ""), "it cannot exceed what nobody counts"
    assert spending(budget(carbonKilograms=1), at, 10).condition.reason == "EnergyUnknown"


def test_a_price_that_is_in_the_book_for_later_is_reckoned_with() -> None:
    dear = Entry("later", H100, Rate.dollars_per_hour(3600), 150)  # a dollar a second
    at = account_at(Entry("e", H100, CENT_A_SECOND, 0), dear)
    assert spending(budget(dollars=10), at, 100).look_after == 57, "8.00 dollars: 1.50 and seven seconds"
    ends = Entry("ends", H100, CENT_A_SECOND, 0, effective_to=150)
    assert spending(budget(dollars=10), account_at(ends), 0).look_after == LONGEST_LOOK


def test_nobody_looks_where_nothing_is_spent() -> None:
    ended = replace(POD, end=Evidence(TOLD, 500))
    found = spending(budget(dollars=10), account_at(pod=ended), 10_000)
    assert (found.level, found.look_after) == (Level.WITHIN, None)


def _before(found: Spending) -> Any:
    return condition(found.condition, 1, Clock()())


def test_each_level_of_a_budget_is_told_once() -> None:
    ten, twelve, at = budget(dollars=10), budget(dollars=12), account_at()
    assert event(None, spending(ten, at, 10)) is None
    nearly, more = spending(ten, at, 800), spending(ten, at, 900)
    first = event(_before(spending(ten, at, 10)), nearly)
    assert first is not None and (first.reason, first.note) == (
        "BudgetNearlySpent",
        "8.00 dollars are spent, 80 % of budget.dollars 10",
    )
    assert event(_before(nearly), more) is None
    spent = event(_before(more), spending(ten, at, 1000))
    again = event(_before(more), spending(ten, at, 1001))
    assert spent is not None and again is not None and spent.once == again.once != first.once
    raised = event(_before(spending(ten, at, 1000)), spending(twelve, at, 1001))
    assert raised is not None and raised.once not in (first.once, spent.once)


def test_a_condition_of_which_nobody_knows_is_unknown() -> None:
    doubtful = spending(budget(dollars=10), account_at(Entry("e", H100, CENT_A_SECOND, 5)), 9)
    known = spending(budget(dollars=10), account_at(), 9)
    assert (_before(doubtful).status, _before(known).status) == ("Unknown", "True")
