"""A coordinator that dies, stands still, is cut off, or went with its node: who trains is not disturbed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.gang.coordinator import CRAMPED_SECONDS
from tests.support.simulation.nodes import GRACE
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated

SUCCEEDED = 20.0  # seconds from its last word until another one has adopted the generation

HARMS: dict[str, Callable[[Simulation], None]] = {
    "killed": lambda world: world.nodes.end_container("tiny-c1", 137),
    "frozen": lambda world: world.coordinator().freeze(),
    "cut-off": lambda world: world.network.cut_off("node-0"),
    "lost-with-its-node": lambda world: world.power_off("node-0"),
    "deleted": lambda world: world.objects.end(POD, "tiny-c1", 15),
}


def adopted(world: Simulation) -> bool:
    """Whether a second coordinator serves the generation of the first one."""
    status = world.status
    return (
        status["coordinator"]["epoch"] == 2
        and bool(status["coordinator"].get("podUID"))
        and world.coordinator().listens
        and world.coordinator().service.coordinator.state.generation is not None
    )


def serves(world: Simulation, above: int) -> bool:
    """Whether a coordinator of a higher epoch than `above` has adopted a generation."""
    newest = world.coordinator()
    return (
        newest.listens
        and newest.service.epoch > above
        and newest.service.coordinator.state.generation is not None
    )


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())
@simulated(nodes=5)
async def test_a_successor_adopts_what_runs_and_no_rank_starts_again(
    world: Simulation, harm: Callable[[Simulation], None]
) -> None:
    await training(world, 2)
    harm(world)
    known = set(world.objects.objects)
    passed = await world.until(lambda: (POD, "tiny-c2") in set(world.objects.objects) - known, 60)
    passed += await world.until(lambda: world.process_at("tiny-c2") is not None, 20)
    passed += await world.until(lambda: adopted(world), 60)
    assert passed < SUCCEEDED
    await world.until_steps(25)
    assert {str(generation) for _, generation, _ in world.steps} == {"1.1"}
    assert world.status["restarts"] == 0
    assert world.status["checkpoint"]["latestStep"] >= 20, "it commits"


@simulated(nodes=5)
async def test_one_that_was_replaced_and_comes_back_does_no_harm(world: Simulation) -> None:
    await training(world, 2)
    first = world.coordinator()
    first.freeze()
    await world.until(lambda: world.status["coordinator"]["epoch"] == 2, 60)
    first.thaw()
    await world.until_steps(40)
    assert {str(generation) for _, generation, _ in world.steps} == {"1.1"}
    await world.until(lambda: world.phase == "Succeeded", 200)
    assert (POD, "tiny-c1") not in world.objects.objects


@simulated(nodes=3)
async def test_it_is_put_beside_earlier_ones_where_there_is_no_other_node(world: Simulation) -> None:
    await training(world, 2, steps=200)
    passed = []
    for _ in world.nodes.by_name:
        before = world.coordinator()
        before.freeze()
        passed.append(await world.until(lambda known=before.service.epoch: serves(world, known), 60))
    assert {world.node_of(f"tiny-c{epoch}") for epoch in (1, 2, 3)} == set(world.nodes.by_name)
    assert max(passed[:2]) < SUCCEEDED and passed[2] < SUCCEEDED + CRAMPED_SECONDS
    saved = world.saved
    await world.until(lambda: world.saved > saved, 60)
    assert {str(generation) for _, generation, _ in world.steps} == {"1.1"}


@simulated(nodes=5)
async def test_the_coordinator_and_a_worker_lost_with_one_node(world: Simulation) -> None:
    world.nodes.wishes["tiny-w0-0"] = "node-0"
    world.grace = 20.0  # as on the local cluster
    await training(world, 3)
    world.power_off("node-0")
    assert await world.until_steps(1, 120) < 30
    assert world.status["restarts"] == 1


@simulated(nodes=9)
async def test_a_rack_lost_with_the_coordinator_and_most_workers(world: Simulation) -> None:
    places = await training(world, 3)
    for place in ("node-0", *places[:2]):
        world.power_off(place)
    assert await world.until_steps(1, 200) < GRACE + 30


@simulated(nodes=5)
async def test_an_operator_that_hears_none_of_several_replaces_none(world: Simulation) -> None:
    await training(world, 2)
    world.apply(name="other", compute={"profile": "local-cpu", "nodes": 1})
    await world.until(lambda: world.phase_of("other") == "Running", 30)
    for place in world.nodes.by_name:
        world.network.cut(world.operators[0].place, place)
    await world.until_steps(60, 200)
    assert not {(POD, "tiny-c2"), (POD, "other-c2")} & set(world.objects.objects)


async def both_on_one_node(world: Simulation) -> None:
    """Two runs train, and both coordinators are on node-0."""
    world.nodes.wishes["other-c"] = "node-0"
    await training(world, 2, steps=300)
    world.apply(name="other", compute={"profile": "local-cpu", "nodes": 1})
    await world.until(lambda: world.phase_of("other") == "Running", 30)
    assert world.node_of("tiny-c1") == world.node_of("other-c1") == "node-0"


def both_replaced(world: Simulation) -> bool:
    """Whether each of the two runs has a second coordinator."""
    return {(POD, "tiny-c2"), (POD, "other-c2")} <= set(world.objects.objects)


@simulated(nodes=6)
async def test_all_that_stood_on_one_node_are_replaced_before_kubernetes_misses_it(world: Simulation) -> None:
    await both_on_one_node(world)
    world.power_off("node-0")
    passed = await world.until(lambda: both_replaced(world), GRACE)
    assert passed < 5 + 2 * 10 + 2 + 5, "two renewals of its Lease from the first silence on"
    assert world.nodes.by_name["node-0"].ready
    await world.until_steps(20)
    assert world.status["restarts"] == 0


@simulated(nodes=6)
async def test_all_whose_ports_are_closed_are_replaced(world: Simulation) -> None:
    """Kubelets are stopped, so nobody tells that the containers have ended."""
    await both_on_one_node(world)
    world.nodes.by_name["node-0"].kubelet = False
    for name in ("tiny-c1", "other-c1"):
        world.process_of(name).kill()
    assert await world.until(lambda: both_replaced(world), GRACE) < SUCCEEDED


@simulated(nodes=6)
async def test_none_is_replaced_on_a_node_that_renews_its_lease(world: Simulation) -> None:
    await both_on_one_node(world)
    for name in ("tiny-c1", "other-c1"):
        world.process_of(name).freeze()
    await world.until_seconds(120)
    assert not {(POD, "tiny-c2"), (POD, "other-c2")} & set(world.objects.objects)


@simulated(nodes=6)
async def test_an_api_server_that_was_away_makes_no_lease_late(world: Simulation) -> None:
    await both_on_one_node(world)
    for place in world.nodes.by_name:
        world.network.cut(world.operators[0].place, place)
    await world.until_seconds(8)
    world.api.process.freeze()
    await world.until_seconds(14)  # kubelets renew nothing meanwhile
    world.api.process.thaw()
    await world.until_seconds(60)
    assert not {(POD, "tiny-c2"), (POD, "other-c2")} & set(world.objects.objects)


@simulated(nodes=4, slots=2)
async def test_it_shares_no_node_with_a_worker_where_another_has_room(world: Simulation) -> None:
    world.apply()
    await world.until(lambda: world.phase == "Running", 30)
    workers = {world.node_of("tiny-w0-0"), world.node_of("tiny-w1-0")}
    assert world.node_of("tiny-c1") not in workers
    world.power_off(world.node_of("tiny-c1"))
    await world.until(lambda: world.status["coordinator"]["epoch"] == 2, GRACE)
    await world.until(lambda: world.node_of("tiny-c2") != "", 10)
    assert world.node_of("tiny-c2") not in workers


@simulated(nodes=3, slots=2)
async def test_a_substitute_shares_no_node_with_it_where_another_has_room(world: Simulation) -> None:
    await training(world, 2, steps=100)
    world.power_off(world.node_of("tiny-w1-0"))
    await world.until(lambda: (POD, "tiny-w1-1") in world.objects.objects, 30)
    await world.until(lambda: world.node_of("tiny-w1-1") != "", 5)
    assert world.node_of("tiny-w1-1") == world.node_of("tiny-w0-0") != world.node_of("tiny-c1")
