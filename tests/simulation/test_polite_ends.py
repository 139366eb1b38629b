"""Ends that were announced: SIGTERM with grace, an eviction, a drain. All save first, and no step is lost."""

from __future__ import annotations

import pytest

from footplate_elastic.coordinator.timing import SAVING
from footplate_operator.runtime.kinds import POD
from tests.support.simulation.stories import repeated, training
from tests.support.simulation.world import Simulation, simulated


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("save", [0.2, 8.0], ids="saved-in-{}s".format)
@simulated(nodes=5)
async def test_a_worker_that_is_deleted_ends_when_all_have_saved(
    world: Simulation, index: int, save: float
) -> None:
    await training(world, 2, steps=40)
    await world.until_steps(3)
    world.save_seconds = save
    world.objects.end(POD, f"tiny-w{index}-0", 60)
    await world.until(lambda: "1.2" in {str(generation) for _, generation, _ in world.steps}, 30)
    assert repeated(world) == 0
    world.save_seconds = 0.2
    await world.until(lambda: world.phase == "Succeeded", 120)
    first = world.status["attempts"][0]
    assert (first["cause"], first["lostSteps"]) == ("NodeLost", 0)
    assert world.status["restarts"] == 1
    saving = ["Checkpointing"] if save > SAVING else []
    phases = ["Running", *saving, "Restarting", "Running", "Succeeded"]
    assert [phase for _, phase in world.phases][2:] == phases


@simulated(nodes=5)
async def test_what_was_saved_is_told_though_the_operator_went_with_the_same_node(world: Simulation) -> None:
    await training(world, 2, steps=40)
    await world.until_steps(3)
    world.objects.end(POD, "tiny-w1-0", 60)
    world.restart_operator()
    await world.until(lambda: world.phase == "Succeeded", 120)
    first = world.status["attempts"][0]
    assert (first["lostSteps"], first["endStep"]) == (0, world.status["attempts"][1]["startStep"])
    assert repeated(world) == 0


@simulated(nodes=5)
async def test_all_workers_are_told_to_end_at_once(world: Simulation) -> None:
    await training(world, 2, steps=40)
    await world.until_steps(3)
    for pod in world.live_workers():
        world.objects.end(POD, pod["metadata"]["name"], 60)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert repeated(world) == 0


@simulated(nodes=5)
async def test_one_that_dies_while_all_save_costs_what_was_not_saved(world: Simulation) -> None:
    await training(world, 2, steps=40)
    world.save_seconds = 8.0
    world.objects.end(POD, "tiny-w1-0", 60)
    await world.until_seconds(3.0)
    world.nodes.end_container("tiny-w1-0", 137)
    world.save_seconds = 0.2
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert world.status["restarts"] == 1


@simulated(nodes=5)
async def test_a_spare_takes_the_slot_of_a_worker_that_leaves(world: Simulation) -> None:
    await training(world, 2, steps=40, spares=1)
    await world.until_steps(8)
    world.objects.end(POD, "tiny-w1-0", 60)
    assert await world.until(lambda: bool(world.steps) and str(world.steps[-1][1]) == "1.2", 30) < 6
    assert repeated(world) == 0
    await world.until(lambda: world.phase == "Succeeded", 120)


@simulated(nodes=5)
async def test_before_the_first_step_there_is_nothing_to_save(world: Simulation) -> None:
    world.apply()
    await world.until(lambda: len(world.live_workers()) == 2, 30)
    world.objects.end(POD, "tiny-w1-0", 60)
    await world.until(lambda: (POD, "tiny-w1-0") not in world.objects.objects, 10)
    await world.until(lambda: world.phase == "Running", 30)


@pytest.mark.parametrize("save", [0.2, 8.0], ids="saved-in-{}s".format)
@simulated(nodes=5)
async def test_a_worker_that_is_preempted_saves_before_it_goes(world: Simulation, save: float) -> None:
    await training(world, 2, steps=40)
    await world.until_steps(3)
    world.save_seconds = save
    world.nodes.objects.preempt("tiny-w1-0")
    await world.until(lambda: "1.2" in {str(generation) for _, generation, _ in world.steps}, 30)
    world.save_seconds = 0.2
    await world.until(lambda: world.phase == "Succeeded", 120)
    first = world.status["attempts"][0]
    assert (first["cause"], first["reason"], first["lostSteps"]) == ("Preempted", "PreemptionByScheduler", 0)
    assert repeated(world) == 0 and world.status["restarts"] == 1
