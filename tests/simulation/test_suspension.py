"""Suspensions that are taken back, disturbed, or edited over: the run ends where the last spec says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from footplate_operator.runtime.kinds import POD
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated

WHILE_SUSPENDING: dict[str, Callable[[Simulation], None]] = {
    "nothing": lambda world: None,
    "rank-killed": lambda world: world.agent("tiny-w1-0").kill_ranks(),
    "agent-killed": lambda world: world.nodes.end_container("tiny-w1-0", 137),
    "worker-deleted": lambda world: world.objects.end(POD, "tiny-w1-0", 30),
    "node-off": lambda world: world.power_off("node-2"),
    "coordinator-killed": lambda world: world.nodes.end_container("tiny-c1", 137),
    "coordinator-frozen": lambda world: world.coordinator().freeze(),
    "operator-killed": lambda world: world.restart_operator(),
}


@pytest.mark.parametrize("harm", WHILE_SUSPENDING.values(), ids=WHILE_SUSPENDING.keys())
@pytest.mark.parametrize("seconds", [0.2, 1.0])
@simulated(nodes=5)
async def test_an_acknowledgement_is_true(
    world: Simulation, harm: Callable[[Simulation], None], seconds: float
) -> None:
    await training(world, 2, steps=30)
    await world.until_steps(6)
    volume = world.volume(world.run["metadata"]["uid"])
    world.save_seconds = 3.0
    world.apply(suspend=True)
    await world.until(lambda: world.phase == "Suspending", 5)
    await asyncio.sleep(seconds)
    harm(world)
    await world.until(lambda: world.phase == "Suspended", 60)
    durable, reached = volume.newest.step if volume.newest else 0, world.step
    message = world.condition("Ready")["message"]
    assert f"step {durable} is durable" in message
    lost = re.search(r"(\d+) steps? .*lost", message)
    assert (int(lost[1]) if lost else 0) == reached - durable
    await world.until(lambda: not world.live_workers(), 60)
    assert world.condition("Ready")["message"] == message, "it can still be read"
    world.apply(suspend=False)
    world.save_seconds = 0.2
    await world.until(lambda: world.phase == "Succeeded", 300)


@pytest.mark.parametrize("killed", [False, True], ids=["operator-lives", "operator-killed"])
@pytest.mark.parametrize("tenths", range(1, 24, 2))
@simulated(nodes=4)
async def test_a_suspension_that_is_taken_back(world: Simulation, tenths: int, killed: bool) -> None:
    await training(world, 2, steps=30)
    world.apply(suspend=True)
    await asyncio.sleep(tenths / 10 * 0.7)
    if killed:
        world.restart_operator()
    await asyncio.sleep(tenths / 10 * 0.3)
    world.apply(suspend=False)
    await world.until(lambda: world.phase == "Succeeded", 300)
    assert "NodeLost" not in world.status.get("failures", {})


@pytest.mark.parametrize("after", range(1, 12))
@simulated(nodes=4)
async def test_an_operator_that_dies_between_two_of_its_calls(world: Simulation, after: int) -> None:
    """It has commanded, perhaps, and not written so."""
    await training(world, 2, steps=30)
    world.crash_after(after)
    world.apply(suspend=True)
    await asyncio.sleep(2.0)
    world.apply(suspend=False)
    await world.until(lambda: world.phase == "Succeeded", 300)


@simulated(nodes=4)
async def test_a_run_that_is_deleted_while_it_is_suspended(world: Simulation) -> None:
    await training(world, 2, steps=30)
    world.apply(suspend=True)
    await asyncio.sleep(0.5)
    world.delete()
    await world.until(lambda: not world.pods(), 60)
