"""Workers that cannot start where they were put, and gangs that cannot be completed."""

from __future__ import annotations

import pytest

from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated

GONE = 'failed to pull image "trainer:1": manifest unknown'


# With which words of a kubelet, what it says, and seconds until another node is tried.
NOT_THERE = {
    "image": ("ErrImagePull", GONE, 60),
    "mount": ("FailedMount", "MountVolume.SetUp failed for volume data: connection timed out", 66),
    "container": ("CreateContainerError", "failed to create containerd task: no such device", 60),
    "device": ("UnexpectedAdmissionError", "Allocate failed due to no healthy devices", 0),
}


@pytest.mark.parametrize(("words", "says", "seconds_left"), NOT_THERE.values(), ids=NOT_THERE.keys())
@pytest.mark.parametrize("first", [True, False], ids=["of-the-first-gang", "substitute"])
@simulated(nodes=4)
async def test_a_worker_that_cannot_start_on_its_node_is_tried_on_another_one(
    world: Simulation, first: bool, words: str, says: str, seconds_left: float
) -> None:
    broken = world.nodes.by_name["node-3"]
    broken.broken, broken.fails = says, words
    if first:
        world.nodes.wishes |= {"tiny-c": "node-0", "tiny-w0-0": "node-1", "tiny-w1-0": "node-3"}
        world.apply()
        assert await world.until(lambda: world.phase == "Running", 120) < seconds_left + 20
    else:
        _, place = await training(world, 2)
        world.nodes.wishes["tiny-w1-1"] = "node-3"
        world.nodes.by_name["node-0"].slots = 1
        world.power_off(place)
        assert await world.until_steps(1, 120) < 5 + seconds_left + 15
    await world.until(lambda: world.phase == "Succeeded", 200)


@simulated(nodes=4)
async def test_an_image_that_is_nowhere_ends_a_run_that_never_trained_at_once(world: Simulation) -> None:
    for node in world.nodes.by_name.values():
        node.broken_for = {"worker": GONE}
    world.apply()
    await world.until(lambda: world.phase == "Failed", 20)
    assert world.condition("Failed")["reason"] == "ErrImagePull"


@simulated(nodes=4)
async def test_those_who_may_train_without_it_do(world: Simulation) -> None:
    _, place = await training(world, 2, minNodes=1)
    for node in ("node-0", "node-3"):
        world.nodes.by_name[node].broken = GONE
    world.power_off(place)
    assert await world.until_steps(1, 120) < 60
    await world.until(lambda: world.phase == "Running", 5)


@pytest.mark.parametrize("resumed", [False, True], ids=["restarting", "resumed"])
@simulated(nodes=3)
async def test_a_gang_that_cannot_be_completed_gives_back_what_it_holds_and_comes_again(
    world: Simulation, resumed: bool
) -> None:
    world.nodes.by_name["node-0"].slots = 0
    _, place = await training(world, 2, steps=40)
    world.apply(resilience={"gatherDeadlineSeconds": 90})
    if resumed:
        world.apply(suspend=True)
        await world.until(lambda: world.phase == "Suspended" and not world.live_workers(), 60)
    world.power_off(place)
    if resumed:
        await world.until(lambda: not world.nodes.by_name[place].ready, 60)
        world.apply(suspend=False)
    await world.until(lambda: world.condition("Progressing")["reason"] == "GangIncomplete", 150)
    assert world.phase == "Queued"
    await world.until(lambda: not world.live_workers(), 20)
    told = world.condition("Progressing")
    assert "resilience.gatherDeadlineSeconds" in told["message"] and "no room" in told["message"]
    held = 0
    for _ in range(600):  # it does not hold a node for most of the time
        await world.until_seconds(1.0)
        held += len(world.live_workers())
    assert held < 300
    world.power_on(place)
    await world.until(lambda: world.phase == "Succeeded", 1000)
    assert world.status["failures"].get("ImageOrConfig") is None
