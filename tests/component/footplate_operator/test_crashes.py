"""The operator is killed between any two calls, before or after the effect: the next one finishes the work.

Every call that changes something is tried as the last one, once with and once
without its effect having reached the cluster; that makes a few hundred small
lives, too many for the unit tests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    EVENT,
    POD,
    REVISION,
    SECRET,
    SERVICE,
)
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.fake_cluster import Killed
from tests.support.operator_fakes import NAME
from tests.support.operator_world import World

Step = Callable[[World], Awaitable[None]]


async def _survive(world: World, step: Step) -> bool:
    """Take the step; when the operator is killed in it, start another one and let it go on."""
    try:
        await step(world)
        return False
    except Killed:
        world.cluster.crash_at = None
        world.start_operator()
        await step(world)
        return True


async def _trains(world: World) -> None:
    await world.live(60, until=lambda: world.phase == "Running" and len(world.workers("Running")) >= 2)


async def _loses_a_worker(world: World) -> None:
    if (POD, "tiny-w1-0") in world.cluster.objects:
        world.cluster.bury(POD, "tiny-w1-0")
    await world.live(60, until=lambda: world.phase == "Running" and _generation(world) == "1.2")


async def _loses_its_coordinator(world: World) -> None:
    if (POD, "tiny-c1") in world.cluster.objects:
        world.cluster.bury(POD, "tiny-c1")
    await world.live(60, until=lambda: bool(world.status["coordinator"].get("podUID")) and _epoch(world) == 2)


async def _is_suspended(world: World) -> None:
    if not world.run["spec"].get("suspend"):
        world.change(suspend=True)
    await world.live(60, until=lambda: world.phase == "Suspended" and not world.workers("Running"))


async def _is_resumed(world: World) -> None:
    if world.run["spec"].get("suspend"):
        world.change(suspend=False)
    await world.live(60, until=lambda: world.phase == "Running")


async def _succeeds(world: World) -> None:
    await world.live(90, until=lambda: world.phase == "Succeeded")
    await world.live(10)


async def _is_applied_again(world: World) -> None:
    """With its pods on dead nodes; the second time, what a crash has left of the step."""
    if not world.unreachable:
        world.unreachable = {pod["metadata"]["uid"] for pod in world.cluster.all(POD)}
        world.coordinators.clear()
        world.cluster.bury(TRAINING_RUN, NAME)
        world.submit(**LONG)
    await world.live(60, until=lambda: world.phase == "Running")


async def _is_deleted(world: World) -> None:
    if (TRAINING_RUN, NAME) in world.cluster.objects:
        world.cluster.bury(TRAINING_RUN, NAME)
    await world.live(5)


def _generation(world: World) -> str:
    return str(world.status.get("world", {}).get("generation", ""))


def _epoch(world: World) -> int:
    return int(world.status.get("coordinator", {}).get("epoch", 0))


def _check_training(world: World, epoch: int) -> None:
    names = world.cluster.names
    live = [
        pod["metadata"]["labels"]
        for pod in world.cluster.all(POD)
        if pod["status"].get("phase") in ("Pending", "Running") and "deletionTimestamp" not in pod["metadata"]
    ]
    roles = sorted((labels["footplate.dev/role"], labels.get("footplate.dev/index", "")) for labels in live)
    assert roles == [("coordinator", ""), ("worker", "0"), ("worker", "1")]
    assert _epoch(world) == epoch
    assert names(SECRET) == ["tiny-run"] and names(SERVICE) == ["tiny-coordinator"]
    assert names(DISRUPTION_BUDGET) == ["tiny"] and names(REVISION) == ["tiny-1"]
    assert len(names(CONFIG_MAP)) == 1


LONG = {
    "training": {
        "steps": 1000,
        "globalBatchSize": 8,
        "microBatchSize": 2,
        "optimizer": {"learningRate": 1e-3},
    }
}


async def _lives(steps: list[Step], crash_at: int | None, effect: bool) -> tuple[World, int, bool]:
    world = World()
    world.cluster.crash_at, world.cluster.crash_after = crash_at, effect
    world.submit(**LONG)
    crashed = False
    for step in steps:
        crashed |= await _survive(world, step)
    return world, len(world.cluster.calls), crashed


@pytest.mark.parametrize(
    "effect", [pytest.param(True, id="after-its-effect"), pytest.param(False, id="before")]
)
@pytest.mark.parametrize(
    ("steps", "epoch", "failures", "restarts"),
    [
        pytest.param([_trains], 1, {}, 0, id="start"),
        pytest.param([_trains, _loses_a_worker], 1, {"NodeLost": 1}, 1, id="lost-worker"),
        pytest.param([_trains, _loses_its_coordinator], 2, {}, 0, id="lost-coordinator"),
        pytest.param([_trains, _is_suspended, _is_resumed], 2, {}, 0, id="suspension"),
    ],
)
async def test_killed_at_every_call_the_run_trains_on(
    steps: list[Step], epoch: int, failures: dict[str, int], restarts: int, effect: bool
) -> None:
    _, calls, _ = await _lives(steps, None, effect)
    for number in range(1, calls + 1):
        world, _, crashed = await _lives(steps, number, effect)
        where = f"killed at call {number}: {world.cluster.calls[number - 1]}"
        assert crashed, where
        _check_training(world, epoch)
        assert world.status.get("failures", {}) == failures, where
        assert world.status["restarts"] == restarts, where


@pytest.mark.parametrize(
    "effect", [pytest.param(True, id="after-its-effect"), pytest.param(False, id="before")]
)
async def test_killed_at_every_call_of_the_end_nothing_stays(effect: bool) -> None:
    _, before, _ = await _lives([_trains], None, effect)
    _, calls, _ = await _lives([_trains, _short, _succeeds], None, effect)
    for number in range(before, calls + 1):
        world, _, _ = await _lives([_trains, _short, _succeeds], number, effect)
        assert world.workers("Running") == [] and "tiny-c1" not in world.cluster.names(POD)
        assert world.cluster.all(SECRET) == [] and world.cluster.all(DISRUPTION_BUDGET) == []
        assert world.status["progress"]["step"] == 1000


@pytest.mark.parametrize(
    "effect", [pytest.param(True, id="after-its-effect"), pytest.param(False, id="before")]
)
async def test_killed_at_every_call_of_a_new_beginning_the_namesake_trains(effect: bool) -> None:
    _, before, _ = await _lives([_trains], None, effect)
    _, calls, _ = await _lives([_trains, _is_applied_again], None, effect)
    for number in range(before + 1, calls + 1):
        world, _, crashed = await _lives([_trains, _is_applied_again], number, effect)
        where = f"killed at call {number}: {world.cluster.calls[number - 1]}"
        assert crashed, where
        uid = world.run["metadata"]["uid"]
        own = [pod for pod in world.cluster.all(POD) if pod["metadata"]["uid"] not in world.unreachable]
        assert {pod["metadata"]["labels"]["footplate.dev/run-uid"] for pod in own} == {uid}, where
        assert len(own) == 3, where
        assert (world.status.get("failures", {}), world.status["restarts"]) == ({}, 0), where


async def _short(world: World) -> None:
    """Nearly through already."""
    for leader in world.coordinators.values():
        leader.step = max(leader.step, 980)


@pytest.mark.parametrize(
    "effect", [pytest.param(True, id="after-its-effect"), pytest.param(False, id="before")]
)
async def test_killed_while_deleting_nothing_stays_but_what_garbage_collection_takes(effect: bool) -> None:
    _, before, _ = await _lives([_trains], None, effect)
    _, calls, _ = await _lives([_trains, _is_deleted], None, effect)
    assert calls > before
    for number in range(before + 1, calls + 1):
        world, _, _ = await _lives([_trains, _is_deleted], number, effect)
        owned = [
            body
            for (kind, _), body in world.cluster.objects.items()
            if kind not in (PROFILE, EVENT, TRAINING_RUN, USAGE_RECORD)  # the bill outlives the run
        ]
        assert all(child["metadata"]["ownerReferences"] for child in owned)
