"""A run from its first pod to its last record, in a world without waiting."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from footplate_contracts.names import Reason
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
from tests.support.operator_fakes import KEY, NAME, profile_manifest, run_manifest
from tests.support.operator_world import World, running


async def test_a_run_is_started_in_order_and_succeeds() -> None:
    world = World()
    world.submit()
    await world.reconcile()
    assert world.phase == "Starting"
    assert world.cluster.names(POD) == ["tiny-c1"]
    assert world.condition("Ready")["reason"] == Reason.WAITING_FOR_COORDINATOR
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(10)
    status = world.status
    assert status["progress"]["step"] == 100
    assert status["progress"]["percentage"] == 100.0
    assert status["checkpoint"]["latestStep"] == 100
    assert [attempt["reason"] for attempt in status["attempts"]] == ["Finished"]
    assert world.condition("Complete")["status"] == "True"
    assert world.cluster.names(POD) == ["tiny-w0-0", "tiny-w1-0"], "ended workers stay for their logs"
    assert status["replicas"] == 0
    assert not world.cluster.all(SECRET) and not world.cluster.all(DISRUPTION_BUDGET)


async def test_children_of_a_training_run() -> None:
    world = await running()
    assert world.cluster.names(SECRET) == ["tiny-run"]
    assert world.cluster.names(SERVICE) == ["tiny-coordinator"]
    assert world.cluster.names(REVISION) == ["tiny-1"]
    assert world.cluster.names(DISRUPTION_BUDGET) == ["tiny"]
    assert len(world.cluster.all(CONFIG_MAP)) == 1
    owners = {
        (
            child["metadata"]["ownerReferences"][0]["uid"],
            child["metadata"]["ownerReferences"][0]["controller"],
        )
        for kind in (SECRET, SERVICE, REVISION, DISRUPTION_BUDGET, CONFIG_MAP, POD)
        for child in world.cluster.all(kind)
    }
    assert owners == {(world.run["metadata"]["uid"], True)}
    assert world.status["coordinator"]["epoch"] == 1
    assert world.status["world"] == {
        "nodes": 2,
        "ranks": 4,
        "generation": "1.1",
        "tensor": 1,
        "pipeline": 1,
        "data": 4,
        "spares": 0,
    }


async def test_time_adds_up_to_the_wall_time() -> None:
    world = await running()
    world.cluster.end(POD, "tiny-w1-0")
    await world.live(120, until=lambda: world.phase == "Succeeded")
    created = datetime.fromisoformat(world.run["metadata"]["creationTimestamp"])
    ended = datetime.fromisoformat(world.status["completionTime"])
    wall = (ended - created).total_seconds()
    assert sum(world.status["wallSeconds"].values()) == pytest.approx(wall, rel=0.01)
    assert world.status["wallSeconds"]["restarting"] > 0
    assert 0 < world.status["goodput"] < 1


async def test_a_missing_profile_is_named_and_heals_by_itself() -> None:
    world = World()
    world.cluster.put(profile_manifest("a100"))
    world.cluster.put(run_manifest())
    await world.reconcile()
    assert world.phase == "Queued"
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "ProfileNotFound")
    assert said["message"] == "compute.profile local-cpu is not a ComputeProfile; existing: a100"
    world.cluster.put(profile_manifest())
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.condition("Reconciled")["status"] == "True"


async def test_the_profile_is_frozen_at_admission() -> None:
    world = await running()
    world.cluster.put(profile_manifest(processesPerNode=1, network={"nccl": {"NCCL_DEBUG": "INFO"}}))
    world.cluster.bury(POD, "tiny-w0-0")
    await world.live(20, until=lambda: "tiny-w0-1" in world.cluster.names(POD))
    names = [variable["name"] for variable in _container(world, "tiny-w0-1")["env"]]
    assert "NCCL_DEBUG" not in names


async def test_deletion_leaves_nothing() -> None:
    world = await running()
    world.cluster.bury(TRAINING_RUN, NAME)
    await world.reconcile()
    world._kubelet()
    staying = (PROFILE, EVENT, USAGE_RECORD, SECRET)  # which garbage collection takes away
    left = [f"{kind.name} {name}" for kind, name in world.cluster.objects if kind not in staying]
    assert left == []
    deletions = [call for call in world.cluster.calls if call.startswith("delete_all")]
    assert deletions[0] == "delete_all Pod", "what holds a GPU goes first"


async def test_a_run_whose_end_no_watch_told_is_forgotten() -> None:
    world = await running()
    watches, world.cluster.watches = world.cluster.watches, []
    world.cluster.bury(TRAINING_RUN, NAME)
    for name in world.cluster.names(POD):
        world.cluster.bury(POD, name)
    world.cluster.watches = watches
    for _ in range(100):
        await world.reconcile()
        world.clock.advance(10)
    assert world.cache.get(KEY) is None and world.cluster.names(POD) == []


async def test_a_run_of_the_same_name_starts_afresh() -> None:
    world = await running()
    world.cluster.bury(TRAINING_RUN, NAME)
    world.coordinators.clear()
    world.submit()
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.workers("Running") == ["tiny-w0-0", "tiny-w1-0"]
    assert world.status["restarts"] == 0


async def test_ended_pods_and_the_run_itself_go_in_their_time() -> None:
    world = await running(podRetentionSeconds=60, ttlSecondsAfterFinished=120)
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(50)
    assert len(world.workers()) == 2
    await world.live(20)
    assert world.workers() == []
    await world.live(60)
    assert (TRAINING_RUN, NAME) not in world.cluster.objects


async def test_nothing_is_remembered_of_a_run_that_ended_long_ago() -> None:
    world = await running(podRetentionSeconds=0)
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(60)
    assert world.cluster.names(POD) == []
    for _ in range(20):
        world.clock.advance(60)
        await world.reconcile()
    assert world.reconciler.tracked_count == 0


async def test_a_finished_coordinator_stays_until_its_telemetry_is_out() -> None:
    world = await running()
    world.coordinator().backlog = 5
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(20)
    assert "tiny-c1" in world.cluster.names(POD)
    world.coordinator().backlog = 0
    await world.live(3)
    assert "tiny-c1" not in world.cluster.names(POD)


async def test_a_run_that_is_deleted_at_its_end_tells_its_last_numbers_first() -> None:
    world = await running(ttlSecondsAfterFinished=0)
    world.coordinator().backlog = 5
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(20)
    assert "tiny-c1" in world.cluster.names(POD)
    world.coordinator().backlog = 0
    await world.live(5)
    assert (TRAINING_RUN, NAME) not in world.cluster.objects and world.cluster.names(POD) == []


async def test_the_cluster_may_be_away() -> None:
    world = await running()
    before = world.cluster.names(POD)
    world.cluster.down = True
    for _ in range(20):
        world.clock.advance(30)
        world._train()
        world._speak()
        await world.reconcile()
    world.cluster.down = False
    await world.live(60, until=lambda: world.phase == "Succeeded")
    assert world.status["restarts"] == 0
    assert set(world.cluster.names(POD)) <= set(before)


async def test_an_object_of_another_release_is_a_condition() -> None:
    world = World()
    body = run_manifest()
    body["spec"]["training"]["optimizer"]["momentum"] = "much"
    world.cluster.put(body)
    await world.reconcile()
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "ConfigRefused")
    assert "training.optimizer.momentum" in said["message"]


async def test_progress_is_written_every_few_seconds_only() -> None:
    world = await running(training=_training(steps=100_000))
    calls = len(world.cluster.calls)
    await world.live(30)
    writes = [call for call in world.cluster.calls[calls:] if call == "apply TrainingRun"]
    assert 6 <= len(writes) <= 13, "every 3 s, jittered"


async def test_a_resting_run_is_not_written() -> None:
    world = await running()
    world.change(suspend=True)
    await world.live(30, until=lambda: world.phase == "Suspended")
    await world.live(20)
    calls = len(world.cluster.calls)
    await world.live(900)
    assert world.cluster.calls[calls:] == []


async def test_phases_become_events() -> None:
    world = await running()
    await world.live(60, until=lambda: world.phase == "Succeeded")
    assert sorted(event["reason"] for event in world.cluster.all(EVENT)) == [
        "Running",
        "Starting",
        "Succeeded",
    ]


def _training(**changes: Any) -> dict[str, Any]:
    return {**run_manifest()["spec"]["training"], **changes}


def _container(world: World, pod: str) -> dict[str, Any]:
    container: dict[str, Any] = world.cluster.objects[POD, pod]["spec"]["containers"][0]
    return container
