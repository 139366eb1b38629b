"""A run whose budget is spent, in a whole cluster: what it costs beyond that, and what it trains."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pytest

from footplate_operator.runtime.kinds import EVENT
from footplate_operator.tariff.tariffs import PRICE_ENTRY
from tests.support.operator_fakes import profile_manifest
from tests.support.simulation.stories import repeated, training
from tests.support.simulation.world import CHECKPOINT, Simulation, simulated

A_DOLLAR_A_SECOND: Final = 3600.0  # an hour of a node
NODES: Final = 2
DEADLINE: Final = int(str(CHECKPOINT["emergencyDeadlineSeconds"]))
STEPS: Final = 40


def spent(world: Simulation) -> float:
    """Dollars, as the status says."""
    return float(world.status.get("cost", {}).get("dollars") or 0.0)


def told(world: Simulation) -> list[str]:
    """Reasons of Events about budgets."""
    events = sorted(world.objects.all(EVENT), key=lambda body: str(body["eventTime"]))
    return [body["reason"] for body in events if "Budget" in body["reason"]]


async def begun(world: Simulation, dollars: float, **budget: Any) -> None:
    """A run that trains on two nodes, each a dollar a second, with a budget."""
    world.objects.put(profile_manifest(price={"dollarsPerNodeHour": A_DOLLAR_A_SECOND}))
    world.apply(budget={"dollars": dollars, **budget})
    await training(world, NODES, steps=STEPS)


async def stopped(world: Simulation) -> None:
    """No pod of it holds a node any more, and its status has the last of what it cost."""
    await world.until(lambda: world.phase == "Suspended", 300)
    await world.until(lambda: not world.pods(), 700)
    await world.until_seconds(30)


@pytest.mark.parametrize(
    ("save", "most"), [(0.2, 15), (8.0, 20), (1000.0, DEADLINE + 60)], ids=["quick", "slow", "never"]
)
@simulated(nodes=4)
async def test_beyond_its_budget_a_run_costs_what_it_takes_to_stop(
    world: Simulation, save: float, most: float
) -> None:
    await begun(world, dollars=60)
    world.save_seconds = save
    await stopped(world)
    assert 0 <= (spent(world) - 60) / NODES <= most, "seconds of both nodes"
    assert world.condition("Ready")["reason"] == "BudgetExceeded"
    assert told(world) == ["BudgetNearlySpent", "BudgetExceeded"]


@simulated(nodes=4)
async def test_raised_it_goes_on_by_itself_and_has_lost_no_step(world: Simulation) -> None:
    await begun(world, dollars=60)
    await stopped(world)
    assert 0 < world.step < STEPS
    world.apply(budget={"dollars": 1000})
    await world.until(lambda: world.phase == "Succeeded", 300)
    assert repeated(world) == 0
    world.check_history(STEPS)
    reasons = [attempt["reason"] for attempt in world.status["attempts"]]
    assert reasons == ["BudgetExceeded", "Finished"]
    assert world.status["restarts"] == 0


@simulated(nodes=4)
async def test_the_api_is_not_needed(world: Simulation) -> None:
    world.api_works = False
    await begun(world, dollars=60)
    await world.until(lambda: world.phase == "Suspended", 60)
    assert spent(world) - 60 <= NODES * 30


@pytest.mark.parametrize("dollars", [47, 59, 61])
@simulated(nodes=4)
async def test_an_operator_that_dies_near_the_end_of_it(world: Simulation, dollars: int) -> None:
    await begun(world, dollars=60)
    began = world.clock() - timedelta(seconds=spent(world) / NODES)
    await world.until(lambda: NODES * (world.clock() - began).total_seconds() >= dollars, 60)
    world.restart_operator()
    await stopped(world)
    assert 0 <= (spent(world) - 60) / NODES <= 60
    assert told(world) == ["BudgetNearlySpent", "BudgetExceeded"] or told(world) == ["BudgetExceeded"]
    assert repeated(world) == 0


@simulated(nodes=4)
async def test_a_price_that_rises_while_nothing_happens_is_reckoned_with(world: Simulation) -> None:
    """A hundred dollars a second from a moment on that is in the book, in the middle of a long step."""
    world.apply(resilience={"hang": {"floorSeconds": 3600}})
    await begun(world, dollars=1000, onExceeded="Warn")
    later = (world.clock() + timedelta(seconds=60)).isoformat()
    spec = {"profile": "local-cpu", "dollarsPerNodeHour": 100 * A_DOLLAR_A_SECOND, "effectiveFrom": later}
    entry = {"apiVersion": "footplate.dev/v1alpha1", "kind": PRICE_ENTRY.name, "spec": spec}
    world.objects.put({**entry, "metadata": {"name": "later"}})
    world.pace = 1000.0
    await world.until(lambda: "BudgetExceeded" in told(world), 300)
    assert 1000 <= spent(world) <= 1000 + 100 * NODES * 2
