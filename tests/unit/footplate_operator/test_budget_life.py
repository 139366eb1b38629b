"""A run that spends its budget: suspended with a checkpoint, raised, resumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from footplate_contracts.names import ConditionType
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.kinds import EVENT, POD, Json
from footplate_operator.trainingrun.observation import BudgetAssessment, BudgetLevel
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.operator_fakes import profile_manifest, run_manifest
from tests.support.operator_world import World

LONG = {**run_manifest()["spec"]["training"], "steps": 10_000}
A_DOLLAR_A_SECOND = 3600.0  # an hour of a node


def price(
    dollars: float = A_DOLLAR_A_SECOND,
    name: str = "first",
    written: str = "2026-01-01T00:00:00Z",
    **spec: Any,
) -> Json:
    return {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "PriceEntry",
        "metadata": {"name": name, "namespace": "", "creationTimestamp": written},
        "spec": {
            "profile": "local-cpu",
            "dollarsPerNodeHour": dollars,
            "effectiveFrom": "2026-01-01T00:00:00Z",
            **spec,
        },
    }


async def trains(*prices: Json, **budget: Any) -> World:
    """A run with a budget, whose two workers share a node."""
    world = World()
    for entry in prices:
        world.cluster.put(entry)
    world.submit(training=LONG, budget=budget)
    await world.live(30, until=lambda: world.phase == "Running")
    return world


def events(world: World) -> list[str]:
    """Reasons of Events about budgets."""
    told = sorted(world.cluster.all(EVENT), key=lambda body: str(body["eventTime"]))
    return [body["reason"] for body in told if "Budget" in body["reason"]]


def spent(world: World) -> float:
    return float(world.status["cost"]["dollars"])


async def test_a_budget_that_is_spent_suspends_the_run_until_it_is_raised() -> None:
    world = await trains(price(), dollars=60)
    assert (world.condition("WithinBudget")["status"], events(world)) == ("True", [])
    await world.live(60, until=lambda: world.condition("WithinBudget")["reason"] == "BudgetNearlySpent")
    assert (world.phase, events(world)) == ("Running", ["BudgetNearlySpent"])
    assert 48 <= spent(world) <= 50
    await world.live(60, until=lambda: world.phase == "Suspending")
    assert world.condition("Ready")["reason"] == "BudgetExceeded"
    await world.live(20, until=lambda: world.phase == "Suspended")
    assert 60 <= spent(world) <= 66
    step = world.status["checkpoint"]["latestStep"]
    assert step == world.coordinator().step
    await world.live(600)
    assert (world.phase, world.cluster.all(POD)) == ("Suspended", [])
    assert world.condition("WithinBudget")["status"] == "False"
    ready = world.condition("Ready")
    assert (ready["reason"], ready["message"]) == (
        "BudgetExceeded",
        f"budget.dollars 60 is spent; step {step} is durable",
    )
    assert "suspend" not in world.run["spec"]
    assert events(world) == ["BudgetNearlySpent", "BudgetExceeded"]
    world.change(budget={"dollars": 200})
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.coordinator().start_step == step
    assert (world.condition("WithinBudget")["status"], events(world)[2:]) == ("True", [])
    assert world.status["attempts"][0]["reason"] == "BudgetExceeded"


async def test_a_budget_that_is_taken_away_is_none() -> None:
    world = await trains(price(), dollars=20)
    await world.live(60, until=lambda: world.phase == "Suspended")
    rest = {name: value for name, value in world.run["spec"].items() if name != "budget"}
    world.cluster.put({**world.run, "spec": rest})
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.condition("WithinBudget") == {}


async def test_a_warning_is_a_condition_and_an_event() -> None:
    world = await trains(price(), dollars=20, onExceeded="Warn")
    await world.live(60)
    assert world.phase == "Running"
    assert world.condition("WithinBudget")["status"] == "False"
    assert events(world) == ["BudgetNearlySpent", "BudgetExceeded"]


async def test_nothing_is_told_twice_by_the_next_operator() -> None:
    world = await trains(price(), dollars=30, onExceeded="Warn")
    for _ in range(6):
        await world.live(8)
        world.start_operator()
    assert events(world) == ["BudgetNearlySpent", "BudgetExceeded"]


async def test_who_has_spent_the_budget_is_not_started() -> None:
    world = await trains(price(), dollars=20)
    await world.live(60, until=lambda: world.phase == "Suspended")
    world.change(suspend=True)
    await world.live(5)
    assert world.condition("Ready")["reason"] == "Suspended", "a person's word comes first"
    world.change(suspend=False)
    await world.live(30)
    assert (world.phase, world.condition("Ready")["reason"]) == ("Suspended", "BudgetExceeded")
    assert world.workers() == []


async def test_without_a_price_dollars_are_unknown_and_the_run_goes_on() -> None:
    world = await trains(dollars=1)
    await world.live(60)
    said = world.condition("WithinBudget")
    assert (world.phase, said["status"], said["reason"]) == ("Running", "Unknown", "PriceUnknown")
    world.cluster.put(price())
    await world.live(20, until=lambda: world.phase == "Suspended")


async def test_a_correction_of_the_price_lets_it_go_on() -> None:
    world = await trains(price(), dollars=20)
    await world.live(60, until=lambda: world.phase == "Suspended")
    world.cluster.put(price(36.0, "second", supersedes="first"))
    await world.live(30, until=lambda: world.phase == "Running")
    assert spent(world) < 1


async def test_a_budget_that_is_spent_by_an_operator_that_was_away_is_acted_upon_at_once() -> None:
    world = await trains(price(), dollars=600)
    world.clock.advance(900)
    world.start_operator()
    await world.reconcile()
    assert world.phase == "Suspending"


async def ended_long_ago() -> tuple[World, float]:
    """A run that ended an hour ago, and what it has cost."""
    world = World()
    world.cluster.put(price())
    world.submit()
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(60)
    world.clock.advance(3600)
    await world.reconcile()
    await world.usage.write_due()
    return world, spent(world)


@pytest.mark.parametrize("away", [False, True], ids=["operator-there", "operator-away"])
async def test_what_a_run_has_cost_follows_a_correction_long_after_its_end(away: bool) -> None:
    world, cost = await ended_long_ago()
    assert cost > 5
    world.cluster.put(price(36.0, "second", supersedes="first", written=world.clock().isoformat()))
    if away:
        world.start_operator()
    await world.live(30, until=lambda: spent(world) != cost)
    assert round(spent(world) * 100, 2) == round(cost, 2)


async def test_it_waits_for_its_budget_and_not_for_its_profile() -> None:
    world = await trains(price(), dollars=20)
    await world.live(60, until=lambda: world.phase == "Suspended")
    contradictory = {"requests": {"cpu": "8"}, "limits": {"cpu": "500m"}}
    world.cluster.put(profile_manifest(resources=contradictory))
    world.start_operator()
    await world.live(10)
    said = world.condition("Reconciled")
    assert (world.phase, said["status"], said["reason"]) == ("Suspended", "True", "AsDesired")


async def test_what_was_counted_stands_though_somebody_deletes_the_records() -> None:
    world = await trains(price(), dollars=20)
    await world.live(60, until=lambda: world.phase == "Suspended" and not world.cluster.all(POD))
    await world.live(30)
    for body in world.cluster.all(USAGE_RECORD):
        world.cluster.bury(USAGE_RECORD, body["metadata"]["name"])
    world.start_operator()
    await world.live(15)
    assert (world.phase, world.condition("WithinBudget")["status"]) == ("Suspended", "False")
    assert len(world.status["attempts"]) == 1


@pytest.mark.parametrize("seconds", [0.5, 2.0, 4.0, 12.0], ids="after-{}s".format)
@pytest.mark.parametrize("ending", [False, True], ids=["nodes-stay", "coordinators-node-ends"])
async def test_it_is_suspended_as_by_hand(seconds: float, ending: bool) -> None:
    """Whatever it does then: the same pods go, and the coordinator is told the same."""
    world = World()
    world.submit(training=LONG)
    await world.live(seconds)
    controller, body = world.reconciler.controller, world.run
    run = controller.decode(body)
    view = await controller.observe(run, world.cache.children(run.namespace, run.uid), world.clock())
    if ending:
        leaving = [
            replace(pod, notice="its node is cordoned", noticed_since=run.created)
            for pod in view.observed.coordinators
        ]
        view = replace(view, observed=view.observed.with_pods(leaving))
    by_hand = replace(run, spec=run.spec.model_copy(update={"suspend": True}))
    spent = BudgetAssessment(
        BudgetLevel.EXCEEDED, NewCondition(ConditionType.WITHIN_BUDGET, False, "x", ""), "it is spent"
    )
    first = controller.desire(by_hand, view, None, world.clock())
    over = replace(view, observed=replace(view.observed, spending=spent))
    second = controller.desire(run, over, None, world.clock())
    for name in ("changes", "directives", "coordinator", "requeue_after"):
        assert getattr(first, name) == getattr(second, name)
    assert first.status.phase == second.status.phase != run.phase
