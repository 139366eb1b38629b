"""A run that goes on with fewer nodes, grows again, and is scaled while it trains."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_operator.runtime.kinds import POD
from tests.support.operator_fakes import run_manifest
from tests.support.operator_world import World, running


async def elastic(nodes: int = 2) -> World:
    return await sized(**compute(nodes))


async def sized(**fields: Any) -> World:
    training = {**run_manifest()["spec"]["training"], "steps": 10_000}
    return await running(training=training, compute={"profile": "local-cpu", **fields})


def compute(nodes: int) -> dict[str, Any]:
    return {"profile": "local-cpu", "nodes": nodes, "minNodes": 1, "maxNodes": 4}


def size(world: World) -> int:
    return int(world.status["world"]["nodes"])


async def test_fewer_nodes_go_on_and_the_substitute_makes_it_grow() -> None:
    world = await elastic()
    world.kubelet_works = False
    world.end_pod("tiny-w1-0", 137)
    await world.live(30, until=lambda: world.phase == "Running" and size(world) == 1)
    assert world.condition("Ready")["message"] == ("1 nodes train; this changes to 2 at a checkpoint")
    assert world.status["replicas"] == 2, "the substitute waits to be scheduled"
    world.kubelet_works = True
    await world.live(30, until=lambda: world.phase == "Running" and size(world) == 2)
    status = world.status
    assert [attempt["reason"] for attempt in status["attempts"]] == ["PodFailed", "Resized", ""]
    assert [attempt["nodes"] for attempt in status["attempts"]] == [2, 1, 2]
    assert (status["restarts"], status["failures"]) == (1, {"NodeLost": 1})
    assert "tiny-w0-0" in world.workers("Running"), "the other worker is not touched"


async def test_a_substitute_that_dies_beside_the_small_world_interrupts_nobody() -> None:
    world = await elastic()
    world.kubelet_works = False
    world.end_pod("tiny-w1-0", 137)
    await world.live(30, until=lambda: world.phase == "Running" and size(world) == 1)
    world.start_pod("tiny-w1-1", "10.0.9.9")
    world.end_pod("tiny-w1-1", 1)
    await world.live(5)
    assert "tiny-w1-2" in world.cluster.names(POD)
    assert (world.phase, world.status["restarts"], size(world)) == ("Running", 1, 1)


async def test_a_run_is_scaled_while_it_trains() -> None:
    world = await elastic()
    world.change(compute=compute(3))
    await world.live(30, until=lambda: size(world) == 3 and world.phase == "Running")
    assert world.workers("Running") == ["tiny-w0-0", "tiny-w1-0", "tiny-w2-1"]
    assert world.condition("Reconciled")["message"] == "everything matches the spec"
    world.change(compute=compute(1))
    await world.reconcile()
    assert len(world.workers("Running")) == 3, "they train until the next checkpoint"
    await world.live(30, until=lambda: size(world) == 1 and world.phase == "Running")
    await world.live(3)
    assert world.workers() == ["tiny-w0-0"]
    status = world.status
    assert (status["restarts"], status["failures"]) == (0, {})
    assert [attempt["nodes"] for attempt in status["attempts"]] == [2, 3, 1]


@pytest.mark.parametrize(
    ("before", "after", "trains"),
    [
        pytest.param({"nodes": 2}, {"nodes": 3}, 3, id="without-bounds"),
        pytest.param({"nodes": 2}, {"nodes": 3, "minNodes": 1, "maxNodes": 4}, 3, id="bounds-added"),
        pytest.param({"nodes": 2, "maxNodes": 2}, {"nodes": 6, "maxNodes": 6}, 6, id="bounds-widened"),
        pytest.param({"nodes": 3, "minNodes": 3}, {"nodes": 1, "minNodes": 1}, 1, id="least-lowered"),
        pytest.param({"nodes": 2, "minNodes": 1}, {"nodes": 2, "minNodes": 2}, 2, id="least-raised"),
    ],
)
async def test_size_and_bounds_change_while_it_trains(
    before: dict[str, int], after: dict[str, int], trains: int
) -> None:
    world = await sized(**before)
    world.change(compute={"profile": "local-cpu", **after})
    await world.live(30, until=lambda: size(world) == trains and world.phase == "Running")
    await world.live(3)
    assert len(world.workers("Running")) == trains
    assert (world.coordinator().nodes, world.coordinator().least) == (trains, after.get("minNodes"))
    assert world.condition("Reconciled")["message"] == "everything matches the spec"
    assert world.status["restarts"] == 0 and len(world.coordinators) == 1


async def test_without_bounds_any_more_it_keeps_the_size_that_it_has_and_waits_for_a_lost_node() -> None:
    world = await elastic()
    world.change(compute=compute(3))
    await world.live(30, until=lambda: size(world) == 3 and world.phase == "Running")
    world.change(compute={"profile": "local-cpu", "nodes": 3})
    await world.live(3)
    assert (world.phase, size(world), world.coordinator().least) == ("Running", 3, None)
    world.kubelet_works = False
    world.end_pod("tiny-w0-0", 137)
    await world.live(30)
    assert world.phase == "Restarting", "nobody goes on with fewer"
    assert world.condition("Reconciled")["message"] == "everything matches the spec"


async def test_bounds_that_are_given_to_a_run_that_waits_let_it_go_on() -> None:
    world = await sized(nodes=2)
    world.kubelet_works = False
    world.end_pod("tiny-w1-0", 137)
    await world.live(30)
    assert world.phase == "Restarting"
    world.change(compute={"profile": "local-cpu", "nodes": 2, "minNodes": 1})
    await world.live(5, until=lambda: world.phase == "Running" and size(world) == 1)


async def test_a_size_that_is_taken_back_before_its_checkpoint_changes_nothing() -> None:
    world = await elastic()
    world.change(compute=compute(4))
    await world.reconcile()
    world.change(compute=compute(2))
    await world.live(10)
    assert world.workers("Running") == ["tiny-w0-0", "tiny-w1-0"]
    assert [attempt["nodes"] for attempt in world.status["attempts"]] == [2]


async def test_a_new_coordinator_begins_with_the_size_that_holds() -> None:
    world = await sized(nodes=2)
    world.change(compute={"profile": "local-cpu", "nodes": 3, "minNodes": 2})
    await world.live(30, until=lambda: size(world) == 3 and world.phase == "Running")
    world.end_pod("tiny-c1", 1)
    await world.live(30, until=lambda: world.coordinator().epoch == 2)
    assert (world.coordinator().nodes, world.coordinator().least) == (3, 2)
    await world.live(10)
    assert [attempt["nodes"] for attempt in world.status["attempts"]] == [2, 3]
    assert (world.phase, world.status["restarts"]) == ("Running", 0)


async def test_nobody_is_given_back_while_a_new_coordinator_knows_of_nobody() -> None:
    world = await elastic()
    [uid] = world.followed
    ignorant = {"members": [], "generation": None, "state": RunState.GATHERING}
    world.heard[uid] = world.heard[uid].model_copy(update=ignorant)
    world.coordinator().reachable = False
    world.change(compute=compute(1))
    await world.live(3)
    assert len(world.workers("Running")) == 2
    assert world.condition("Ready")["message"] == ("2 nodes train; this changes to 1 at a checkpoint")
    world.coordinator().reachable = True
    await world.live(30, until=lambda: size(world) == 1 and world.workers() == ["tiny-w0-0"])


async def test_a_new_operator_carries_out_what_was_asked_for_meanwhile() -> None:
    world = await elastic(4)
    world.change(compute=compute(2))
    await world.live(30, until=lambda: size(world) == 2 and world.phase == "Running")
    await world.live(3)
    world.change(compute={"profile": "local-cpu", "nodes": 4, "minNodes": 3})
    world.start_operator()
    await world.live(30, until=lambda: size(world) == 4 and world.phase == "Running")
    assert (world.coordinator().nodes, world.coordinator().least) == (4, 3)
    assert (world.status["restarts"], world.status["failures"]) == (0, {}), "a place that was new is no loss"


async def test_a_size_that_cannot_train_is_a_condition_and_the_run_goes_on() -> None:
    world = await elastic()
    world.coordinator().illegal = frozenset({3})
    world.change(compute={"profile": "local-cpu", "nodes": 3})
    await world.live(10)
    reconciled = world.condition("Reconciled")
    assert (reconciled["status"], reconciled["reason"]) == ("False", "SizeRefused")
    assert reconciled["message"] == "3 cannot train"
    assert world.condition("Ready")["message"] == "2 nodes continue to train; 3 cannot train"
    world.change(compute=compute(2))
    await world.live(2)
    assert world.condition("Reconciled")["status"] == "True"
    assert [attempt["nodes"] for attempt in world.status["attempts"]] == [2]
