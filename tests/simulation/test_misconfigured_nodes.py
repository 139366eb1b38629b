"""Nodes where RDMA cannot work, as their containers may lock too little memory."""

from __future__ import annotations

from tests.simulation.test_broken_gpus import places
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated

LITTLE = 64 << 10


@simulated(nodes=4)
async def test_a_run_that_never_trained_ends_at_the_first_one(world: Simulation) -> None:
    world.nodes.wishes |= {"tiny-c": "node-0", "tiny-w0-0": "node-1", "tiny-w1-0": "node-3"}
    world.nodes.by_name["node-3"].locked_memory = LITTLE
    world.apply()
    await world.until(lambda: world.phase == "Failed", 20)
    failed = world.condition("Failed")
    assert failed["reason"] == "NodeMisconfigured"
    assert "RLIMIT_MEMLOCK is 65536 bytes" in failed["message"]
    assert "LimitMEMLOCK=infinity" in failed["message"]
    assert world.status["attempts"][0]["node"] == "node-3"


@simulated(nodes=4)
async def test_a_run_that_has_trained_avoids_it(world: Simulation) -> None:
    """It has the most room, and would get each substitute until the budget is spent."""
    _, place = await training(world, 2, steps=200)
    world.nodes.wishes["tiny-w1"] = "node-3"
    world.nodes.by_name["node-3"].locked_memory, world.nodes.by_name["node-3"].slots = LITTLE, 2
    world.nodes.by_name["node-0"].slots = 2
    world.power_off(place)
    await world.until(lambda: world.status["failures"].get("ImageOrConfig") == 1, 60)
    await world.until(lambda: world.phase == "Running", 60)
    assert "node-3" not in places(world)
    await world.until(lambda: world.phase == "Succeeded", 400)
    assert world.status["failures"]["ImageOrConfig"] == 1
