"""A run that is deleted and applied again at once, while what it left behind is still there."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.names import Role
from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.kinds import (
    DISRUPTION_BUDGET,
    POD,
    REVISION,
    SECRET,
    SERVICE,
    Json,
)
from footplate_operator.trainingrun.gang.coordinator import plan_coordinator
from footplate_operator.trainingrun.gang.plan import Slots, plan_workers
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.fake_cluster import Clock, travelled
from tests.support.operator_fakes import KEY, NAME, run_manifest
from tests.support.operator_world import World, running

NOW = Clock()()
WELL = {"True", ""}


async def _on_dead_nodes() -> World:
    """A world whose run trained until all its nodes died."""
    world = await running()
    world.unreachable = {pod["metadata"]["uid"] for pod in world.cluster.all(POD)}
    return world


def _applied_again(world: World) -> str:
    """Delete the run and apply it again, before anybody looks; the old run's uid."""
    uid = str(world.run["metadata"]["uid"])
    world.cluster.bury(TRAINING_RUN, NAME)
    world.coordinators.clear()
    world.submit()
    return uid


async def _starts(world: World, seconds: float = 10) -> set[str]:
    """Lives until the run trains; the names of its pods."""
    uid = world.run["metadata"]["uid"]
    for _ in range(int(2 * seconds)):
        await world.live(0.5)
        assert world.condition("Reconciled").get("status", "") in WELL, world.describe()
    assert world.phase == "Running", world.describe()
    return {
        pod["metadata"]["name"]
        for pod in world.cluster.all(POD)
        if pod["metadata"]["labels"]["footplate.dev/run-uid"] == uid
    }


async def test_a_namesake_starts_beside_pods_that_stay_terminating() -> None:
    world = await _on_dead_nodes()
    _applied_again(world)
    assert await _starts(world) == {"tiny-c2", "tiny-w0-1", "tiny-w1-1"}
    assert (world.status["restarts"], world.status["coordinator"]["epoch"]) == (0, 2)
    assert {"tiny-c1", "tiny-w0-0", "tiny-w1-0"} < set(world.cluster.names(POD)), "they are still there"


async def test_a_namesake_starts_though_the_operator_was_away_and_garbage_collection_is_late() -> None:
    """Nobody told the operator of the deletion, and nothing of the old run has gone yet."""
    world = await _on_dead_nodes()
    old = _applied_again(world)
    world.start_operator()
    assert len(await _starts(world)) == 3
    for kind in (SECRET, SERVICE, DISRUPTION_BUDGET, REVISION):
        assert old not in {_owner(child) for child in world.cluster.all(kind)}, kind


async def test_pods_that_no_watch_told_of_are_found_in_the_way() -> None:
    world = await _on_dead_nodes()
    _applied_again(world)
    world.start_operator()
    world.watches.pending = [(event, body) for event, body in world.watches.pending if body["kind"] != "Pod"]
    assert len(await _starts(world)) == 3


async def test_a_run_is_left_alone_when_pods_of_its_predecessor_turn_up() -> None:
    world = await running()
    world.trains = False
    stranger = travelled(world.cluster.objects[POD, "tiny-c1"])
    stranger["metadata"] |= {"name": "tiny-c7", "uid": "old-pod"}
    stranger["metadata"]["labels"] |= {"footplate.dev/epoch": "7", "footplate.dev/run-uid": "old"}
    stranger["metadata"]["ownerReferences"][0]["uid"] = "old"
    world.unreachable.add("old-pod")
    world.cluster.put(stranger)
    before = world.cluster.calls.copy()
    await world.live(5)
    assert [call for call in world.cluster.calls[len(before) :] if "TrainingRun" not in call] == []
    world.cluster.bury(POD, "tiny-c1")
    await world.live(5, until=lambda: "tiny-c8" in world.cluster.names(POD))


async def test_what_belongs_to_a_run_that_is_there_is_not_taken_from_it() -> None:
    """An operator whose view is old acts for a run that has gone and a namesake of which has come."""
    world = World()
    world.submit()
    await world.live(0.5, until=lambda: bool(world.cluster.all(SECRET)))
    body = travelled(world.run)
    new = travelled(body)
    new["metadata"] |= {"uid": "new"}
    world.cluster.objects[TRAINING_RUN, NAME] = new
    for child in (world.cluster.objects[SECRET, "tiny-run"], world.cluster.objects[POD, "tiny-c1"]):
        child["metadata"]["ownerReferences"][0]["uid"] = "new"
        child["metadata"]["labels"]["footplate.dev/run-uid"] = "new"
    world.cluster.calls.clear()
    world.queue.add(KEY)
    await world.reconcile()
    assert not [call for call in world.cluster.calls if call.startswith("delete ")]


async def test_a_child_that_does_not_go_is_told_after_half_a_minute() -> None:
    world = await _on_dead_nodes()
    world.start_operator()
    world.cluster.refuse["delete_all", SERVICE] = RequestForbidden("services is forbidden", 403)
    world.cluster.objects[SERVICE, "tiny-coordinator"]["metadata"]["deletionTimestamp"] = (
        "2026-01-31T12:00:00Z"
    )
    _applied_again(world)
    await world.live(25)
    assert world.condition("Reconciled").get("status", "") in WELL
    await world.live(10)
    said = world.condition("Reconciled")
    assert (said["reason"], "belongs to TrainingRun tiny" in said["message"]) == ("ChildConflict", True)
    world.cluster.bury(SERVICE, "tiny-coordinator")
    await world.live(20, until=lambda: world.phase == "Running")
    assert world.condition("Reconciled")["status"] == "True"


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(("new", "changed", "gone"), id="after-the-new-one-came"),
        pytest.param(("changed", "new", "gone"), id="its-end-is-late"),
        pytest.param(("changed", "gone", "new"), id="in-order"),
        pytest.param(("gone", "new", "changed"), id="a-change-after-its-end"),
        pytest.param(("new", "gone", "changed"), id="its-end-before-a-change"),
    ],
)
async def test_late_events_of_a_deleted_run_hide_no_namesake(order: tuple[str, ...]) -> None:
    world = World()
    tell = world.handlers[TRAINING_RUN]
    events = {
        "new": {"type": "ADDED", "object": _version("new", 9)},
        "changed": {"type": "MODIFIED", "object": _version("old", 6)},
        "gone": {"type": "DELETED", "object": _version("old", 7)},
    }
    await tell({"type": "ADDED", "object": _version("old", 5)})
    for name in order:
        await tell(events[name])
    known = world.cache.get(KEY)
    assert known is not None and known["metadata"]["uid"] == "new"
    assert world.cache.unpurged(KEY) == ["old"]
    assert world.cache.live() == 1


async def test_a_run_whose_end_nobody_told_is_gone_when_its_namesake_comes() -> None:
    world = World()
    tell = world.handlers[TRAINING_RUN]
    await tell({"type": "ADDED", "object": _version("old", 5)})
    await tell({"type": None, "object": _version("new", 9)})
    assert world.cache.unpurged(KEY) == ["old"]


@pytest.mark.parametrize(
    ("taken", "epoch", "workers"),
    [
        pytest.param([], 1, [0, 0], id="nothing-left"),
        pytest.param([("coordinator", 3)], 4, [0, 0], id="coordinator"),
        pytest.param([("worker", 2), ("spare", 5), ("coordinator", 1)], 2, [6, 6], id="the-highest"),
    ],
)
def test_numbers_begin_after_those_of_a_predecessor(
    taken: list[tuple[str, int]], epoch: int, workers: list[int]
) -> None:
    epochs = [number for role, number in taken if role == Role.COORDINATOR]
    incarnations = [number for role, number in taken if role != Role.COORDINATOR]
    serving = plan_coordinator([], 0, False, 0.0, NOW, max(epochs, default=0))
    slots = Slots(nodes=2, counter=0, launched=False, fresh=True, taken=max(incarnations, default=-1))
    assert serving.epoch == epoch
    assert [worker.incarnation for worker in plan_workers(slots, [], NOW).missing] == workers


def _version(uid: str, version: int) -> Json:
    body = run_manifest()
    body["metadata"] |= {
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-31T12:00:00Z",
    }
    return body


def _owner(child: Json) -> Any:
    return child["metadata"]["ownerReferences"][0]["uid"]
