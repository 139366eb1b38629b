"""What Node objects tell: a second witness where agents are silent, and nothing by themselves."""

from __future__ import annotations

import pytest

from footplate_operator.runtime.kinds import POD
from tests.support.simulation.nodes import GRACE
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated

SUSPECTED = 8.0  # seconds until a coordinator has said whom it does not hear
REPAIRED = 8.0  # from Kubernetes' word to the next step
TOLD = 1.0  # to the coordinator
LED = 16.0  # by another operator, after one that was killed


def judged(world: Simulation) -> bool:
    """Whether the coordinator holds both to be lost whom it suspected, as Kubernetes misses one of them, too.

    Nodes are not called NotReady in the same moment, and of whom is left after the first most are heard.
    """
    slots = world.coordinator().service.coordinator.state.slots.values()
    return sum(bool(slot.lost) for slot in slots) == 2


@simulated(nodes=9)
async def test_more_than_half_lost_are_known_as_their_nodes_are_not_ready(world: Simulation) -> None:
    for place in (await training(world, 3))[:2]:
        world.power_off(place)
    assert GRACE < await world.until(lambda: judged(world), 120) < GRACE + TOLD
    assert await world.until_steps(1) < REPAIRED


@pytest.mark.parametrize("restarted", [False, True], ids=["", "operator-restarted"])
@simulated(nodes=9)
async def test_pods_on_deleted_nodes_are_not_waited_for(world: Simulation, restarted: bool) -> None:
    """Their pods are told to be Running for a minute more."""
    for place in (places := (await training(world, 3))[:2]):
        world.power_off(place)
    await world.until_seconds(SUSPECTED)
    for place in places:
        world.nodes.objects.delete(place)
    if restarted:
        world.restart_operator()  # no watch tells it that these Nodes were there
    assert await world.until_steps(1) < REPAIRED + (LED if restarted else 0)
    assert all(pod["status"]["phase"] == "Running" for pod in world.live_pods())


@simulated(nodes=9)
async def test_nodes_that_were_made_again_are_not_those_of_the_pods_there(world: Simulation) -> None:
    for place in (places := (await training(world, 3))[:2]):
        world.power_off(place)
    await world.until_seconds(SUSPECTED)
    for place in places:
        world.nodes.objects.replace(place)
    assert await world.until_steps(1) < REPAIRED


@simulated(nodes=9)
async def test_a_watch_that_was_torn_is_made_up_for(world: Simulation) -> None:
    places = (await training(world, 3))[:2]
    for replica in world.operators:
        assert replica.watches is not None
        replica.watches.tear()
    for place in places:
        world.power_off(place)
        world.nodes.objects.delete(place)
    await world.until_seconds(SUSPECTED)
    for replica in world.operators:
        assert replica.watches is not None
        replica.watches.mend()
    assert await world.until_steps(1) < REPAIRED + 5


@simulated(nodes=5)
async def test_a_node_that_is_not_ready_is_no_loss_while_its_agent_is_heard(world: Simulation) -> None:
    place = (await training(world, 2))[1]
    world.nodes.by_name[place].kubelet = False
    world.network.changed()
    await world.until_seconds(GRACE + 20)
    assert not world.nodes.by_name[place].ready
    assert world.status["restarts"] == 0 and world.phase == "Running"


@simulated(nodes=4)
async def test_a_node_that_dies_as_its_first_pod_is_bound(world: Simulation) -> None:
    world.nodes.wishes |= {"tiny-c": "node-0", "tiny-w1-0": "node-1", "tiny-w0-0": "node-2"}
    world.apply()
    await world.until(lambda: (POD, "tiny-w1-0") in world.objects.objects, 10)
    await world.until(lambda: world.node_of("tiny-w1-0") == "node-1", 1)
    world.power_off("node-1")
    world.nodes.objects.delete("node-1")
    await world.until(lambda: (POD, "tiny-w1-1") in world.objects.objects, 5)
    await world.until_steps(1, 15)
