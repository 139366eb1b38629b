"""Pods that are lost, and programs that cannot be reached."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.names import Cause, Reason
from footplate_operator.runtime.kinds import (
    POD,
)
from tests.support.operator_world import World, running


@pytest.mark.parametrize(
    ("harm", "phase"),
    [
        pytest.param(lambda world: world.cluster.bury(POD, "tiny-w1-0"), "Restarting", id="by-force"),
        pytest.param(lambda world: world.cluster.end(POD, "tiny-w1-0"), "Running", id="it-saves-first"),
        pytest.param(lambda world: world.end_pod("tiny-w1-0", 137), "Restarting", id="killed"),
        pytest.param(lambda world: world.end_pod("tiny-w1-0", 80), "Restarting", id="stale"),
    ],
)
async def test_a_lost_worker_is_replaced_at_once(harm: Any, phase: str) -> None:
    world = await running()
    harm(world)
    await world.reconcile()  # no time passes: a Terminating pod is not waited for
    assert "tiny-w1-1" in world.cluster.names(POD)
    assert world.phase == phase
    await world.live(30, until=lambda: world.status["restarts"] == 1 and world.phase == "Running")
    status = world.status
    assert status["failures"] == {"NodeLost": 1}
    assert status["internal"]["incarnation"] == 1
    assert [attempt.get("cause") for attempt in status["attempts"]] == ["NodeLost", None]
    assert status["attempts"][1]["generation"] == "1.2"
    assert "tiny-w0-0" in world.workers("Running"), "the other worker is not touched"


@pytest.mark.parametrize("order", ["pod-first", "coordinator-first"])
async def test_memory_has_its_budget_though_the_agent_went_with_the_container(order: str) -> None:
    world = await running()
    for times in (1, 2):
        world.trains = False
        first = world.workers("Running")[0]
        if order == "pod-first":
            world.end_pod(first, 137, terminated="OOMKilled")
            await world.reconcile()
        _lose_agent(world, first)
        await world.reconcile()
        if order == "coordinator-first":
            world.end_pod(first, 137, terminated="OOMKilled")
            await world.reconcile()
        assert world.status["failures"] == {"OutOfMemory": times}
        await world.live(10)
    assert world.phase == "Failed"
    assert "training.microBatchSize" in world.condition("Failed")["message"]


def _lose_agent(world: World, name: str) -> None:
    """The coordinator notices the end of a connection, and no more."""
    pod, leader = world.cluster.objects[POD, name], world.coordinator()
    leader.here.discard(int(pod["metadata"]["labels"]["footplate.dev/index"]))
    seconds = world.clock().timestamp()
    leader.fail(Cause.NODE_LOST, Reason.AGENT_LOST, "its connection ended", pod, seconds)
    world._speak()


async def test_both_workers_lost_at_once_is_one_restart() -> None:
    world = await running()
    world.cluster.bury(POD, "tiny-w0-0")
    world.cluster.bury(POD, "tiny-w1-0")
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.workers("Running") == ["tiny-w0-1", "tiny-w1-1"]
    assert world.status["restarts"] == 1


async def test_a_worker_that_only_the_coordinator_lost_gets_a_substitute_and_is_left_alone() -> None:
    world = await running()
    pod = world.cluster.objects[POD, "tiny-w1-0"]
    leader = world.coordinator()
    leader.here = {0}
    leader.fail(Cause.NODE_LOST, Reason.AGENT_LOST, "silent for 5 s", pod, world.clock().timestamp())
    world.trains = False
    world._speak()
    await world.reconcile()
    assert world.cluster.names(POD) == ["tiny-c1", "tiny-w0-0", "tiny-w1-0", "tiny-w1-1"]
    assert world.status["failures"] == {"NodeLost": 1}


async def test_a_lost_coordinator_gets_the_next_epoch_and_workers_are_untouched() -> None:
    world = await running()
    before = _uids(world, "tiny-w0-0", "tiny-w1-0")
    world.end_pod("tiny-c1", 137)
    await world.reconcile()
    assert "tiny-c2" in world.cluster.names(POD)
    assert world.phase == "Running", "nothing was heard that says otherwise"
    await world.live(10, until=lambda: world.status["coordinator"].get("podUID") not in ("", None))
    await world.live(30, until=lambda: world.phase == "Succeeded")
    assert _uids(world, "tiny-w0-0", "tiny-w1-0") == before
    assert world.status["coordinator"]["epoch"] == 2
    assert world.status["restarts"] == 0


async def test_an_unreachable_coordinator_is_never_dead() -> None:
    world = await running()
    world.coordinator().reachable = world.trains = False
    calls = len(world.cluster.calls)
    await world.live(600)
    assert world.phase == "Running"
    assert [call for call in world.cluster.calls[calls:] if call.startswith(("create Pod", "delete"))] == []


async def test_an_operator_restart_changes_nothing() -> None:
    world = await running()
    before = {name: world.cluster.objects[POD, name]["metadata"]["uid"] for name in world.cluster.names(POD)}
    calls = len(world.cluster.calls)
    world.start_operator()
    await world.reconcile()
    assert world.cluster.calls[calls:] == []
    after = {name: world.cluster.objects[POD, name]["metadata"]["uid"] for name in world.cluster.names(POD)}
    assert after == before


def _uids(world: World, *names: str) -> list[str]:
    return [world.cluster.objects[POD, name]["metadata"]["uid"] for name in names]
