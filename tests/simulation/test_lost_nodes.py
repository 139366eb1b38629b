"""Nodes that are lost: any number at once, before, during and after a repair."""

from __future__ import annotations

import pytest

from footplate_operator.runtime.kinds import POD
from tests.support.simulation.nodes import GRACE
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated

REPAIRED = 15.0  # seconds from the loss of a node to the next step; 5 of them are silence


@pytest.mark.parametrize("lost", [1, 2], ids="{}-of-4".format)
@simulated(nodes=9)
async def test_nodes_lost_at_the_same_moment_have_their_substitutes_as_soon_as_one(
    world: Simulation, lost: int
) -> None:
    for place in (await training(world, 4))[:lost]:
        world.power_off(place)
    assert await world.until_steps(1, 120) < REPAIRED
    assert world.status["restarts"] == 1


@pytest.mark.parametrize("lost", [2, 3], ids="{}-of-3".format)
@simulated(nodes=9)
async def test_more_than_half_lost_are_judged_when_kubernetes_says_so(world: Simulation, lost: int) -> None:
    for place in (await training(world, 3))[:lost]:
        world.power_off(place)
    assert await world.until_steps(1, 120) < GRACE + REPAIRED


@simulated(nodes=4)
async def test_a_deaf_coordinator_declares_nobody_lost(world: Simulation) -> None:
    await training(world, 3)
    world.network.cut_off("node-0")
    await world.until_steps(20)  # they do not need it to train
    world.network.mend()
    await world.until_steps(20)
    assert world.status["restarts"] == 0


@simulated(nodes=9)
async def test_a_node_that_dies_during_a_repair(world: Simulation) -> None:
    places = await training(world, 4)
    world.power_off(places[0])
    await world.until(lambda: len(world.pods("worker")) == 5, 30)
    world.power_off(places[1])
    assert await world.until_steps(1, 120) < REPAIRED + 5


@simulated(nodes=3, slots=2)
async def test_a_substitute_is_put_where_there_is_room_and_not_on_a_node_that_died(world: Simulation) -> None:
    """Two of three nodes lose power at once, and the living one has room."""
    world.nodes.wishes |= {"tiny-w0-0": "node-0", "tiny-w1-1": "node-2"}
    await training(world, 2)
    world.power_off("node-1")
    world.power_off("node-2")
    assert await world.until_steps(1, 120) < REPAIRED + 10 + 5


@simulated(nodes=5)
async def test_a_node_that_dies_before_the_first_join(world: Simulation) -> None:
    world.nodes.wishes |= {"tiny-c": "node-0", "tiny-w1-0": "node-1"}
    world.apply()
    await world.until(lambda: (POD, "tiny-w1-0") in world.objects.objects, 10)
    world.power_off("node-1")
    assert await world.until_steps(1, 120) < GRACE + REPAIRED


@simulated(nodes=6)
async def test_an_agent_that_stands_still_before_its_first_word(world: Simulation) -> None:
    """Its pod is ready, and no coordinator has ever heard of it."""
    world.apply(compute={"profile": "local-cpu", "nodes": 3})
    await world.until(lambda: len(world.live_workers()) == 3, 20)
    world.agent("tiny-w2-0").freeze()
    assert await world.until_steps(1, 120) < 60 + REPAIRED


@simulated(nodes=3)
async def test_who_comes_back_before_a_substitute_has_room_trains_on(world: Simulation) -> None:
    _, place = await training(world, 2)
    world.network.cut_off(place)
    await world.until(lambda: (POD, "tiny-w1-1") in world.objects.objects, 30)
    world.network.mend()
    await world.until_steps(5, 30)
    await world.until(lambda: (POD, "tiny-w1-1") not in world.objects.objects, 30)
    assert [pod["metadata"]["name"] for pod in world.live_workers()] == ["tiny-w0-0", "tiny-w1-0"]


@simulated(nodes=3)
async def test_a_frozen_agent_gives_its_node_back(world: Simulation) -> None:
    """Every other node is taken, so that its substitute fits nowhere else."""
    world.nodes.by_name["node-0"].slots = 0
    _, place = await training(world, 2)
    world.agent("tiny-w1-0").freeze()
    substitutes = [f"tiny-w1-{incarnation}" for incarnation in range(1, 5)]

    def moved_in() -> bool:
        return any(pod["metadata"]["name"] in substitutes for pod in world.live_workers())

    assert await world.until(moved_in, 90) < 60
    assert [pod["spec"]["nodeName"] for pod in world.live_workers()][1] == place
    await world.until_steps(5)


@simulated(nodes=4)
async def test_a_node_that_was_cut_off_is_cleared_when_it_is_back(world: Simulation) -> None:
    _, place = await training(world, 2)
    world.network.cut_off(place)
    await world.until_steps(60, 120)
    assert (POD, "tiny-w1-0") in world.objects.objects, "nobody could ask its kubelet"
    world.network.mend()
    assert await world.until(lambda: (POD, "tiny-w1-0") not in world.objects.objects, 60) < 60
    await world.until(lambda: world.phase == "Succeeded", 200)
