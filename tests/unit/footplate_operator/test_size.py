"""A run that goes on with fewer nodes, grows again, and is scaled while it trains."""

from __future__ import annotations

from typing import Any

from footplate_operator.kinds import POD
from tests.support.operator_fakes import run_manifest
from tests.support.operator_world import World, running


async def elastic(nodes: int = 2) -> World:
    training = {**run_manifest()["spec"]["training"], "steps": 10_000}
    return await running(training=training, compute=compute(nodes))


def compute(nodes: int) -> dict[str, Any]:
    return {"profile": "local-cpu", "nodes": nodes, "minNodes": 1, "maxNodes": 4}


def size(world: World) -> int:
    return int(world.status["world"]["nodes"])


async def test_fewer_nodes_go_on_and_the_substitute_makes_it_grow() -> None:
    world = await elastic()
    world.kubelet_works = False
    world.end_pod("tiny-w1-0", 137)
    await world.live(30, until=lambda: world.phase == "Running" and size(world) == 1)
    assert world.condition("Ready")["message"] == (
        "1 nodes train; 2 are wanted, which changes at a checkpoint"
    )
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
    assert world.condition("Reconciled")["message"] == "everything is as the spec asks"
    world.change(compute=compute(1))
    await world.reconcile()
    assert len(world.workers("Running")) == 3, "they train until the next checkpoint"
    await world.live(30, until=lambda: size(world) == 1 and world.phase == "Running")
    await world.live(3)
    assert world.workers() == ["tiny-w0-0"]
    status = world.status
    assert (status["restarts"], status["failures"]) == (0, {})
    assert [attempt["nodes"] for attempt in status["attempts"]] == [2, 3, 1]


async def test_a_size_beyond_what_was_admitted_waits_for_a_resumption() -> None:
    world = await elastic()
    world.change(compute={**compute(4), "nodes": 6, "maxNodes": 6})
    await world.live(10)
    assert len(world.workers()) == 4
    assert "take effect when it is resumed" in world.condition("Reconciled")["message"]
