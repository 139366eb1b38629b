"""What a budget asks for at which amount, and when it is looked at again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.budget import Budget
from footplate_contracts.v1alpha1.status import CostStatus, TrainingRunStatus
from footplate_ledger.account import Account, Tariff
from footplate_ledger.cost_cache import RunCostCache
from footplate_ledger.cost_sums import CostAggregator
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate, Money, Power
from footplate_ledger.usage import TOLD, EndTime, NodeLifetime, Owner, PodAllocation, PowerProfile, Sku
from footplate_operator.runtime import conditions
from footplate_operator.runtime.conditions import condition
from footplate_operator.runtime.events import ObjectEvent
from footplate_operator.trainingrun.desired.budget_check import check_budget, get_assessment
from footplate_operator.trainingrun.events import budget_event
from footplate_operator.trainingrun.observation import BudgetAssessment, BudgetLevel
from footplate_operator.trainingrun.policies.budget import LONGEST_LOOK, assess_budget, assess_from_status
from footplate_operator.trainingrun.status.cost import account
from footplate_operator.usage.owner_usage import OwnerUsage
from tests.support.fake_cluster import Clock
from tests.support.ledger_reference import build_accounts
from tests.support.operator_runs import run

H100 = Sku("h100")
CENT_A_SECOND = HourlyRate.dollars_per_hour(36)
KILOWATT = Power(Fraction(1000))
NODE = NodeLifetime("n1", "n1", H100, 0, EndTime(0, 0), devices=8)
POD = PodAllocation(
    "p1", Owner("TrainingRun", "a", "b", "u"), Role.WORKER, 1, "n1", H100, 0, EndTime(0, 0), 8
)


def account_at(*prices: PriceBookEntry, pod: PodAllocation = POD) -> Callable[[int], Account]:
    """Of one pod that has a whole node from second 0 on, at a cent a second unless prices say otherwise."""
    tariff = Tariff(PriceBook(prices or [PriceBookEntry("e", H100, CENT_A_SECOND, 0)]))
    return lambda at: build_accounts([NODE], [pod], tariff, at).get("p1", Account())


def budget(**said: Any) -> Budget:
    return Budget.from_json(said)


@pytest.mark.parametrize(
    ("at", "level", "status", "reason", "exceeded", "look"),
    [
        pytest.param(0, BudgetLevel.WITHIN, True, "WithinBudget", "", LONGEST_LOOK, id="begins"),
        pytest.param(700, BudgetLevel.WITHIN, True, "WithinBudget", "", 100, id="until-80-percent"),
        pytest.param(799, BudgetLevel.WITHIN, True, "WithinBudget", "", 1, id="last-second"),
        pytest.param(800, BudgetLevel.NEARLY, True, "BudgetNearlySpent", "", 200, id="80-percent"),
        pytest.param(999, BudgetLevel.NEARLY, True, "BudgetNearlySpent", "", 1, id="nearly-all"),
        pytest.param(
            1000, BudgetLevel.EXCEEDED, False, "BudgetExceeded", "budget.dollars 10 is spent", None, id="all"
        ),
        pytest.param(
            5000, BudgetLevel.EXCEEDED, False, "BudgetExceeded", "budget.dollars 10 is spent", None, id="more"
        ),
    ],
)
def test_ten_dollars_at_a_cent_a_second(
    at: int, level: BudgetLevel, status: bool, reason: str, exceeded: str, look: int | None
) -> None:
    found = assess_budget(budget(dollars=10), account_at(), at)
    said = found.condition
    assert (found.level, said.holds, said.reason, found.exceeded, found.look_after) == (
        level,
        status,
        reason,
        exceeded,
        look,
    )


def test_warn_says_it_and_suspends_nothing() -> None:
    found = assess_budget(budget(dollars=10, onExceeded="Warn"), account_at(), 1000)
    assert (found.condition.holds, found.exceeded, found.look_after) == (False, "", None)
    assert found.condition.message == "budget.dollars 10 is spent; the run continues (onExceeded: Warn)"


def test_carbon_has_a_limit_of_its_own_and_the_worse_of_two_counts() -> None:
    pod = replace(
        POD, site=PowerProfile(device_watts=KILOWATT, grams_per_kilowatt_hour=Fraction(450))
    )  # 3.6 kg an hour: a gram a second
    at = account_at(pod=pod)
    assert assess_budget(budget(carbonKilograms=1), at, 999).look_after == 1
    both = assess_budget(budget(carbonKilograms=1, dollars=100), at, 1000)
    assert (both.level, both.exceeded) == (BudgetLevel.EXCEEDED, "budget.carbonKilograms 1 is spent")
    assert (
        assess_budget(budget(carbonKilograms=100, dollars=9), at, 1000).exceeded
        == "budget.dollars 9 is spent"
    )


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
    found = assess_budget(budget(dollars=9.95), account_at(PriceBookEntry("e", H100, CENT_A_SECOND, 5)), at)
    assert (found.condition.holds, found.condition.reason) == (status, reason)
    assert ("set price in their ComputeProfile" in found.condition.message) == (status is None)


def test_a_pod_without_a_price_is_doubtful_from_its_first_second_on() -> None:
    at = account_at(PriceBookEntry("other", Sku("a100"), CENT_A_SECOND, 0))
    found = assess_budget(budget(dollars=1), at, 0)
    assert (found.condition.holds, found.condition.reason) == (None, "PriceUnknown")
    late = assess_budget(budget(dollars=1), at, 10**7)
    assert (late.level, late.exceeded) == (BudgetLevel.WITHIN, ""), "it cannot exceed what nobody counts"
    assert assess_budget(budget(carbonKilograms=1), at, 10).condition.reason == "EnergyUnknown"


def test_a_price_that_is_in_the_book_for_later_is_reckoned_with() -> None:
    dear = PriceBookEntry("later", H100, HourlyRate.dollars_per_hour(3600), 150)  # a dollar a second
    at = account_at(PriceBookEntry("e", H100, CENT_A_SECOND, 0), dear)
    assert assess_budget(budget(dollars=10), at, 100).look_after == 57, "8.00 dollars: 1.50 and seven seconds"
    ends = PriceBookEntry("ends", H100, CENT_A_SECOND, 0, effective_to=150)
    assert assess_budget(budget(dollars=10), account_at(ends), 0).look_after == LONGEST_LOOK


def test_nobody_looks_where_nothing_is_spent() -> None:
    ended = replace(POD, end=EndTime(TOLD, 500))
    found = assess_budget(budget(dollars=10), account_at(pod=ended), 10_000)
    assert (found.level, found.look_after) == (BudgetLevel.WITHIN, None)


def status(found: BudgetAssessment | None, dollars: float | None = None) -> TrainingRunStatus:
    """Of a run that has spent so."""
    said = [] if found is None else [condition(found.condition, 1, Clock()())]
    return TrainingRunStatus(conditions=said, cost=None if dollars is None else CostStatus(dollars=dollars))


def told(
    limit: Budget, before: BudgetAssessment | None, after: BudgetAssessment, dollars: float | None = None
) -> ObjectEvent | None:
    subject = run(budget=limit.to_json())
    return budget_event(replace(subject, status=status(before)), status(after, dollars))


def test_each_level_of_a_budget_is_told_once() -> None:
    ten, twelve, at = budget(dollars=10), budget(dollars=12), account_at()
    within, nearly, more, spent = (assess_budget(ten, at, second) for second in (10, 800, 900, 1000))
    assert told(ten, None, within) is None
    first = told(ten, within, nearly, 8.0)
    assert first is not None and (first.reason, first.note, first.warning) == (
        "BudgetNearlySpent",
        "80 % of budget.dollars 10 is spent; so far: 8.00 dollars",
        True,
    )
    assert told(ten, nearly, more) is None
    last, again = told(ten, more, spent, 10.0), told(ten, None, assess_budget(ten, at, 1003))
    assert last is not None and again is not None
    assert last.once == again.once != first.once, "an operator that died before its status was written"
    assert told(ten, spent, spent) is None
    raised = told(twelve, spent, assess_budget(twelve, at, 1001))
    assert raised is not None and raised.once != first.once


def test_a_condition_of_which_nobody_knows_is_unknown() -> None:
    doubtful = assess_budget(budget(dollars=10), account_at(PriceBookEntry("e", H100, CENT_A_SECOND, 5)), 9)
    known = assess_budget(budget(dollars=10), account_at(), 9)
    assert [status(found).conditions[0].status for found in (doubtful, known)] == ["Unknown", "True"]


@pytest.mark.parametrize(
    ("cost", "status", "reason", "exceeded"),
    [
        pytest.param({}, True, "WithinBudget", "", id="nothing"),
        pytest.param({"dollars": 8.0}, True, "BudgetNearlySpent", "", id="nearly"),
        pytest.param({"dollars": 10.0}, False, "BudgetExceeded", "budget.dollars 10 is spent", id="all"),
        pytest.param({"dollars": 2.0, "unpricedNodeSeconds": 5.0}, None, "PriceUnknown", "", id="unpriced"),
        pytest.param(
            {"nodeSeconds": 9.0, "unpricedNodeSeconds": 9.0}, None, "PriceUnknown", "", id="no-price"
        ),
    ],
)
def test_while_its_usage_cannot_be_read_a_run_has_spent_what_its_status_says(
    cost: dict[str, Any], status: bool | None, reason: str, exceeded: str
) -> None:
    found = assess_from_status(budget(dollars=10), CostStatus.from_json(cost))
    said = found.condition
    assert (said.holds, said.reason, found.exceeded, found.look_after) == (status, reason, exceeded, None)


@pytest.mark.parametrize(
    ("cost", "reason"),
    [
        pytest.param({"carbonKilograms": 1.5, "method": "counter 100 %"}, "WithinBudget", id="known"),
        pytest.param({"nodeSeconds": 60.0}, "EnergyUnknown", id="unknown"),
        pytest.param(
            {"carbonKilograms": 1.5, "method": "rated 60 %, unknown 40 %"}, "EnergyUnknown", id="partly"
        ),
        pytest.param({}, "WithinBudget", id="nothing-held"),
    ],
)
def test_and_has_emitted_what_that_says(cost: dict[str, Any], reason: str) -> None:
    assert (
        assess_from_status(budget(carbonKilograms=4), CostStatus.from_json(cost)).condition.reason == reason
    )


# -- what turns out to be less ---------------------------------------------------------------


def suspended(at: int, **limits: Any) -> BudgetAssessment:
    """Of a run that was suspended by ten dollars, and whose pod ended in the second `at` after all."""
    told = conditions.merge(
        [], [assess_budget(budget(dollars=10), account_at(), 1000).condition], 1, after(1000)
    )
    known = run(budget=limits or {"dollars": 10})
    known = replace(known, status=known.status.model_copy(update={"conditions": told}))
    usage = OwnerUsage([replace(POD, end=EndTime(TOLD, at))], [], [NODE])
    tariff = Tariff(PriceBook([PriceBookEntry("e", H100, CENT_A_SECOND, 0)]))
    found = get_assessment(known, check_budget(known, usage, tariff, after(2000), None), after(2000))
    assert found is not None
    return found


def test_an_end_that_was_seconds_earlier_than_was_known_resumes_nothing() -> None:
    told = assess_budget(budget(dollars=10), account_at(), 1000)
    for at in (999, 990, 800):
        found = suspended(at)
        assert (found.exceeded, found.condition) == (told.exceeded, told.condition)
        assert (found.level, found.look_after) == (BudgetLevel.EXCEEDED, None)


@pytest.mark.parametrize(
    ("at", "limits"),
    [
        pytest.param(799, {"dollars": 10}, id="less-than-80-percent"),
        pytest.param(999, {"dollars": 11}, id="raised"),
        pytest.param(999, {"dollars": 10, "onExceeded": "Warn"}, id="a-warning-only"),
        pytest.param(999, {"carbonKilograms": 10}, id="taken-away"),
    ],
)
def test_but_a_budget_that_leaves_enough_or_is_another_one_does(at: int, limits: dict[str, Any]) -> None:
    assert suspended(at, **limits).exceeded == ""


# -- what was found is found anew only where it may be otherwise --------------------------


def after(seconds: float) -> datetime:
    """Of the pod's life."""
    return datetime.fromtimestamp(seconds, UTC)


def test_what_was_found_holds_until_the_next_level() -> None:
    limited, usage = run(budget={"dollars": 10}), OwnerUsage([POD], [], [NODE])
    tariff = Tariff(PriceBook([PriceBookEntry("e", H100, CENT_A_SECOND, 0)]))
    first = check_budget(limited, usage, tariff, after(600), None)
    assert first is not None and first.until == 800
    later = check_budget(limited, OwnerUsage([POD], [], [NODE]), tariff, after(799.9), first)
    assert later is first
    told = get_assessment(limited, later, after(799.9))
    assert told is not None and (told.level, told.look_after) == (BudgetLevel.WITHIN, 1)
    nearly = check_budget(limited, usage, tariff, after(800), first)
    assert nearly is not None and nearly.spending.level is BudgetLevel.NEARLY


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"run": run(budget={"dollars": 11})}, id="budget"),
        pytest.param({"usage": OwnerUsage([POD, replace(POD, uid="p2", node="n2")], [], [NODE])}, id="pods"),
        pytest.param(
            {"tariff": Tariff(PriceBook([PriceBookEntry("e", H100, HourlyRate.dollars_per_hour(72), 0)]))},
            id="prices",
        ),
    ],
)
def test_and_is_found_anew_when_anything_changes(change: dict[str, Any]) -> None:
    usual: dict[str, Any] = {
        "run": run(budget={"dollars": 10}),
        "usage": OwnerUsage([POD], [], [NODE]),
        "tariff": Tariff(PriceBook([PriceBookEntry("e", H100, CENT_A_SECOND, 0)])),
    }
    first = check_budget(**usual, now=after(100), before=None)
    assert check_budget(**usual, now=after(101), before=first) is first
    assert check_budget(**(usual | change), now=after(101), before=first) is not first


# -- what a large run's decisions take -------------------------------------------------------

NODES, ATTEMPTS, HOUR = 512, 5, 3600


def of_a_large_run() -> OwnerUsage:
    """Pods on each node, one after another; the last ones are there."""
    nodes = [replace(NODE, uid=f"n{place}", name=f"n{place}") for place in range(NODES)]
    pods = []
    for attempt in range(ATTEMPTS):
        end = EndTime(0 if attempt == ATTEMPTS - 1 else 2, (attempt + 1) * HOUR - 100)
        for place in range(NODES):
            start = attempt * HOUR + place % 60
            pods.append(replace(POD, uid=f"p{attempt}-{place}", node=f"n{place}", start=start, end=end))
    return OwnerUsage(pods, [], nodes)


@pytest.mark.parametrize(
    ("ahead", "most"),
    [pytest.param(10**6, 2, id="far-from-the-budget"), pytest.param(100, 5, id="near-it")],
)
def test_decisions_about_thousands_of_pods_reckon_those_that_go_on(ahead: int, most: int) -> None:
    """A few times each, and what is over once for all."""
    usage, tariff = of_a_large_run(), Tariff(PriceBook([PriceBookEntry("e", H100, CENT_A_SECOND, 0)]))
    now, reckoned = ATTEMPTS * HOUR, [0]

    class Counting(CostAggregator):
        def add(self, node: Any, pods: Any, *how: Any) -> None:
            reckoned[-1] += len(pods)
            super().add(node, pods, *how)

    known = RunCostCache(Counting)
    limit = account(usage, tariff, now + ahead).cost.money.exact / Money.NANO
    limited = run(budget={"dollars": float(limit)})
    for second in range(now, now + 5):
        pods = [*usage.pods[:-1], replace(usage.pods[-1], end=EndTime(0, second))]  # news of one
        found = check_budget(limited, replace(usage, pods=pods), tariff, after(second), None, known)
        reckoned.append(0)
        assert found is not None and found.spending.look_after == min(LONGEST_LOOK, now + ahead - second)
    assert max(reckoned[1:]) <= most * NODES, reckoned
