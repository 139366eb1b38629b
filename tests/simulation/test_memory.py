"""Copies in memory: what a run goes on from, and that the history shown is that of the weights."""

from __future__ import annotations

import pytest

from tests.support.simulation.stories import repeated, training
from tests.support.simulation.world import CHECKPOINT, Simulation, simulated

SETTINGS = {**CHECKPOINT, "everySteps": 40, "memory": {"everySteps": 1}}


async def begin(world: Simulation, **compute: object) -> None:
    """Two nodes train, with the coordinator on node-0; one durable checkpoint, and 27 steps beyond it."""
    world.apply(checkpoint=SETTINGS)
    await training(world, 2, steps=160, **compute)
    await world.until(lambda: world.saved == 40 and world.step >= 67, 120)


async def finish(world: Simulation) -> None:
    await world.until(lambda: world.phase == "Succeeded", 600)
    world.check_history(160)


@simulated(nodes=3)
async def test_a_rank_that_dies_costs_the_steps_since_the_last_copy(world: Simulation) -> None:
    await begin(world)
    world.agent("tiny-w1-0").kill_ranks()
    await finish(world)
    assert repeated(world) <= 1


@simulated(nodes=4)
async def test_so_does_a_node(world: Simulation) -> None:
    await begin(world)
    world.power_off("node-2")
    await finish(world)
    assert repeated(world) <= 2


async def alone(world: Simulation) -> None:
    """node-2 is cut off, and no other has room; node-1 trains on alone, a few steps."""
    given_up = world.step
    world.nodes.by_name["node-0"].slots = 0
    world.network.cut_off("node-2")
    await world.until(lambda: world.step < given_up, 60)
    await world.until_steps(5)
    world.network.mend()
    await world.until(lambda: bool(world.coordinator().service.coordinator.view().waiting), 30)
    assert world.step < given_up, "both have copies of steps that the other one has not trained"


@simulated(nodes=3)
async def test_a_copy_of_steps_that_were_given_up_does_not_come_back(world: Simulation) -> None:
    await begin(world, minNodes=1)
    await alone(world)
    world.agent("tiny-w0-0").kill_ranks()
    await world.until(lambda: world.status["world"]["nodes"] == 2, 60)
    await finish(world)


@pytest.mark.parametrize("coordinator", ["stays", "goes-with-it"])
@simulated(nodes=3)
async def test_nor_when_the_only_node_of_the_later_generation_is_lost(
    world: Simulation, coordinator: str
) -> None:
    await begin(world, minNodes=1)
    await alone(world)
    if coordinator == "goes-with-it":
        world.coordinator().kill()
    world.power_off("node-1")
    world.nodes.by_name["node-0"].slots = 1
    await world.until(lambda: world.status["world"]["nodes"] == 2, 300)
    await finish(world)


@simulated(nodes=3)
async def test_nor_when_the_other_node_joins_again_at_a_checkpoint(world: Simulation) -> None:
    """The checkpoint is of an earlier step than the copy: its save had not ended before the cut."""
    world.save_seconds = 6.0
    await begin(world, minNodes=1)
    await world.until(lambda: world.step >= 82, 60)
    assert world.saved == 40
    await alone(world)
    await world.until(lambda: world.status["world"]["nodes"] == 2, 120)
    await finish(world)
