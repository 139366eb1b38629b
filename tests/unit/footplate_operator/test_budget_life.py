"""A run that spends its budget: suspended with a checkpoint, raised, resumed."""

from __future__ import annotations

from typing import Any

from footplate_operator.runtime.kinds import EVENT, POD, Json
from tests.support.operator_fakes import run_manifest
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


async def test_what_a_run_has_cost_follows_a_correction_long_after_its_end() -> None:
    world = World()
    world.cluster.put(price())
    world.submit()
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(60)
    cost = spent(world)
    assert cost > 5
    world.clock.advance(3600)
    await world.reconcile()
    await world.usage.tend()
    world.cluster.put(price(36.0, "second", supersedes="first", written=world.clock().isoformat()))
    await world.live(30, until=lambda: spent(world) != cost)
    assert round(spent(world) * 100, 2) == round(cost, 2)


async def test_and_a_correction_that_was_written_while_no_operator_was_there() -> None:
    world = World()
    world.cluster.put(price())
    world.submit()
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(60)
    cost = spent(world)
    world.clock.advance(3600)
    world.cluster.put(price(36.0, "second", supersedes="first", written=world.clock().isoformat()))
    world.start_operator()
    await world.live(30, until=lambda: spent(world) != cost)
    assert round(spent(world) * 100, 2) == round(cost, 2)
