"""Nodes that reach everybody but each other: one of two gives its place up, and the run goes on."""

from __future__ import annotations

from typing import Any, Final

import pytest

from footplate_operator.runtime.kinds import POD
from tests.support.simulation.cells import HANG
from tests.support.simulation.faults import agents
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated

BOUND: Final = 5 + 2  # seconds after which a standstill is found, and stacks are written
REPAIRED: Final = 60.0 + BOUND


async def begun(world: Simulation, nodes: int, **compute: Any) -> list[str]:
    """A run that trains with short bounds of its phases; the places of its workers."""
    places = await training(world, nodes, **compute)
    world.apply(resilience={"hang": HANG})
    spares = compute.get("spares", 0)
    await world.until(lambda: len(agents(world)) == nodes + spares, 30)
    await world.until_steps(3)
    return places


def trains(world: Simulation) -> dict[int, str]:
    """Where the members of the newest generation are, by index."""
    sealed = world.coordinator().service.coordinator.state.sealed
    return {m.agent.index: m.agent.node_name for m in sealed.members} if sealed else {}


def cost_nothing(world: Simulation) -> None:
    """No budget was touched, and what was counted is the network's."""
    assert set(world.status["failures"]) == {"Communication"}
    assert world.status["attempts"][0]["reason"] == "NetworkPartition"


@simulated(nodes=6)
async def test_a_ready_spare_takes_the_place_of_one_of_two(world: Simulation) -> None:
    one, other, third = await begun(world, 3, spares=1)
    world.network.cut(one, other)
    assert await world.until_steps(1, 120) < BOUND + 15
    assert trains(world)[0] == one and trains(world)[2] == third and trains(world)[1] != other
    cost_nothing(world)
    await world.until(lambda: world.phase == "Succeeded", 300)
    world.check_history(100)


@simulated(nodes=5)
async def test_a_substitute_goes_to_a_fourth_node(world: Simulation) -> None:
    one, other, third = await begun(world, 3)
    world.network.cut(one, other)
    assert await world.until_steps(1, 120) < REPAIRED
    assert trains(world) == {0: one, 1: "node-4", 2: third}
    cost_nothing(world)


@simulated(nodes=4)
async def test_without_room_both_stay_and_a_condition_names_the_nodes(world: Simulation) -> None:
    """Until the network is mended: then they go on where they are."""
    world.nodes.by_name["node-0"].slots = 0
    one, other, _ = await begun(world, 3)
    world.network.cut(one, other)
    await world.until(lambda: world.condition("Progressing").get("reason") == "NetworkPartition", BOUND + 15)
    await world.until_seconds(100)
    said = world.condition("Progressing")
    assert said["status"] == "False" and one in said["message"] and other in said["message"]
    assert {pod["metadata"]["name"] for pod in world.live_workers()} == {
        f"tiny-w{index}-0" for index in range(3)
    }
    assert world.status["restarts"] == 1 and world.phase == "Restarting"
    world.network.mend()
    assert await world.until_steps(1, 60) < 20
    cost_nothing(world)
    await world.until(lambda: len(world.pods("worker")) == 3, 60)
    await world.until(lambda: world.phase == "Succeeded", 300)
    world.check_history(100)


@simulated(nodes=4)
async def test_fewer_go_on_where_they_may(world: Simulation) -> None:
    world.nodes.by_name["node-0"].slots = 0
    one, other, third = await begun(world, 3, minNodes=2)
    world.network.cut(one, other)
    assert await world.until_steps(1, 120) < REPAIRED
    assert trains(world) == {0: one, 2: third}
    cost_nothing(world)
    assert other in world.condition("Ready")["message"]
    world.network.mend()
    await world.until(lambda: trains(world) == {0: one, 1: other, 2: third}, 40)
    assert set(world.status["failures"]) == {"Communication"}


@simulated(nodes=6)
async def test_packets_that_are_lost_one_way_are_enough(world: Simulation) -> None:
    one, other, _ = await begun(world, 3, spares=1)
    world.network.cut(other, one, both=False)
    assert await world.until_steps(1, 120) < REPAIRED
    assert trains(world)[0] == one and trains(world)[1] != other
    cost_nothing(world)


@pytest.mark.parametrize("hub", range(4))
@simulated(nodes=8)
async def test_who_is_cut_off_from_most_goes(world: Simulation, hub: int) -> None:
    places = await begun(world, 4, spares=1)
    for place in places:
        if place != places[hub]:
            world.network.cut(places[hub], place)
    assert await world.until_steps(1, 120) < REPAIRED
    assert [index for index, place in trains(world).items() if place != places[index]] == [hub]
    cost_nothing(world)


@simulated(nodes=9)
async def test_two_pairs_cost_one_of_each_its_place(world: Simulation) -> None:
    places = await begun(world, 4, spares=1)
    world.network.cut(places[0], places[1])
    world.network.cut(places[2], places[3])
    assert await world.until_steps(1, 120) < REPAIRED
    moved = [index for index, place in trains(world).items() if place != places[index]]
    assert moved == [1, 3]
    cost_nothing(world)


@simulated(nodes=5)
async def test_a_substitute_that_does_not_reach_the_other_either_moves_the_other(world: Simulation) -> None:
    """Node 2 becomes free for it, which only node 1 does not reach."""
    world.nodes.by_name["node-0"].slots = 0
    one, other, _ = await begun(world, 3)
    for place in (other, "node-4"):
        world.network.cut(one, place)
    await world.until(lambda: (POD, "tiny-w0-2") in world.objects.objects, 90)
    assert await world.until_steps(1, 900) < 700
    assert one not in trains(world).values()


@simulated(nodes=5)
async def test_a_cut_that_heals_while_the_substitute_starts(world: Simulation) -> None:
    one, other, _ = await begun(world, 3)
    world.network.cut(one, other)
    await world.until(lambda: (POD, "tiny-w1-1") in world.objects.objects, 60)
    world.network.mend()
    assert await world.until_steps(1, 60) < 20
    await world.until(lambda: len(world.live_workers()) == 3, 60)
    await world.until(lambda: world.phase == "Succeeded", 300)
    world.check_history(100)


@simulated(nodes=6)
async def test_the_coordinator_dies_during_the_repair(world: Simulation) -> None:
    one, other, _ = await begun(world, 3)
    world.network.cut(one, other)
    await world.until(lambda: bool(world.coordinator().service.coordinator.view().unreachable), 60)
    world.nodes.end_container(world.coordinator().name, 137)
    assert await world.until_steps(1, 120) < REPAIRED
    assert other not in trains(world).values() or one not in trains(world).values()
    assert set(world.status["failures"]) <= {"Communication", "NodeLost"}


@simulated(nodes=6)
async def test_the_operator_restarts_during_the_repair(world: Simulation) -> None:
    one, other, third = await begun(world, 3)
    world.network.cut(one, other)
    await world.until(lambda: bool(world.coordinator().service.coordinator.view().unreachable), 60)
    world.restart_operator()
    assert await world.until_steps(1, 120) < REPAIRED
    assert trains(world)[0] == one and trains(world)[2] == third and trains(world)[1] != other
    cost_nothing(world)


@simulated(nodes=6)
async def test_a_standstill_of_a_rank_is_a_hang_as_ever(world: Simulation) -> None:
    await begun(world, 3, spares=1)
    ranks = world.agent("tiny-w1-0").ranks
    assert ranks is not None
    ranks.freeze()
    assert await world.until_steps(1, 120) < BOUND + 5
    assert world.status["failures"] == {"Hang": 1}
    assert len(set(trains(world).values())) == 3 and len(world.pods("worker")) == 3
