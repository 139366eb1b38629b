"""Whole lives of runs: every fault that the operator answers, in a world without waiting."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

import pytest

from footplate_contracts.names import Cause, Reason
from footplate_operator.errors import Forbidden, Invalid
from footplate_operator.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    EVENT,
    POD,
    PROFILE,
    REVISION,
    SECRET,
    SERVICE,
    TRAINING_RUN,
)
from tests.support.operator_world import NAME, World, profile_manifest, run_manifest


async def running(**spec: Any) -> World:
    """A world whose run trains."""
    world = World()
    world.submit(**spec)
    await world.live(30, until=lambda: world.phase == "Running")
    return world


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
        (each["metadata"]["ownerReferences"][0]["uid"], each["metadata"]["ownerReferences"][0]["controller"])
        for kind in (SECRET, SERVICE, REVISION, DISRUPTION_BUDGET, CONFIG_MAP, POD)
        for each in world.cluster.all(kind)
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
    }


async def test_time_adds_up_to_the_wall_time() -> None:
    world = await running()
    world.cluster.end(POD, "tiny-w1-0")
    await world.live(120, until=lambda: world.phase == "Succeeded")
    created = datetime.fromisoformat(world.run["metadata"]["creationTimestamp"])
    ended = datetime.fromisoformat(world.status["completionTime"])
    wall = (ended - created).total_seconds()
    assert sum(world.status["time"].values()) == pytest.approx(wall, rel=0.01)
    assert world.status["time"]["restarting"] > 0
    assert 0 < world.status["goodput"] < 1


async def test_a_missing_profile_is_named_and_heals_by_itself() -> None:
    world = World()
    world.cluster.put(profile_manifest("a100"))
    world.cluster.put(run_manifest())
    await world.reconcile()
    assert world.phase == "Queued"
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "ProfileNotFound")
    assert said["message"] == "compute.profile local-cpu names no ComputeProfile; there are: a100"
    world.cluster.put(profile_manifest())
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.condition("Reconciled")["status"] == "True"


async def test_the_profile_is_frozen_at_admission() -> None:
    world = await running()
    world.cluster.put(profile_manifest(processesPerNode=1, network={"nccl": {"NCCL_DEBUG": "INFO"}}))
    world.cluster.bury(POD, "tiny-w0-0")
    await world.live(20, until=lambda: "tiny-w0-1" in world.cluster.names(POD))
    names = [each["name"] for each in _container(world, "tiny-w0-1")["env"]]
    assert "NCCL_DEBUG" not in names


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda world: world.cluster.bury(POD, "tiny-w1-0"), id="deleted-by-force"),
        pytest.param(lambda world: world.cluster.end(POD, "tiny-w1-0"), id="terminating"),
        pytest.param(lambda world: world.end_pod("tiny-w1-0", 137), id="killed"),
        pytest.param(lambda world: world.end_pod("tiny-w1-0", 80), id="stale"),
    ],
)
async def test_a_lost_worker_is_replaced_at_once(harm: Any) -> None:
    world = await running()
    harm(world)
    await world.reconcile()  # no time passes: a Terminating pod is not waited for
    assert "tiny-w1-1" in world.cluster.names(POD)
    assert world.phase == "Restarting"
    await world.live(30, until=lambda: world.phase == "Running")
    status = world.status
    assert status["restarts"] == 1
    assert status["failures"] == {"NodeLost": 1}
    assert status["incarnation"] == 1
    assert [attempt.get("cause") for attempt in status["attempts"]] == ["NodeLost", None]
    assert status["attempts"][1]["generation"] == "1.2"
    assert "tiny-w0-0" in world.workers("Running"), "the other worker is not touched"


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
    leader = world.leader()
    leader.members = {0: leader.members[0]}
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
    world.leader().reachable = world.trains = False
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


async def test_suspension_saves_first_and_resumption_goes_on() -> None:
    world = await running()
    world.change(suspend=True)
    await world.reconcile()
    assert world.phase == "Suspending"
    await world.live(20, until=lambda: world.phase == "Suspended")
    step = world.status["checkpoint"]["latestStep"]
    assert step == world.leader().step
    await world.live(5)
    assert world.workers("Running") == []
    assert world.status["replicas"] == 0
    assert not world.cluster.all(DISRUPTION_BUDGET)
    assert world.cluster.names(SECRET) == ["tiny-run"] and len(world.cluster.all(CONFIG_MAP)) == 1
    world.change(suspend=False)
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.status["coordinator"]["epoch"] == 2
    assert world.leader().start_step == step
    assert world.workers("Running") == ["tiny-w0-1", "tiny-w1-1"]
    assert world.status["restarts"] == 0
    await world.live(60, until=lambda: world.phase == "Succeeded")
    assert [attempt["reason"] for attempt in world.status["attempts"]] == ["Suspended", "Finished"]


async def test_suspension_gives_up_on_a_coordinator_that_does_not_answer() -> None:
    world = await running(checkpoint={"uri": "/c", "everySteps": 10, "emergencyDeadlineSeconds": 5})
    world.trains = False
    world.change(suspend=True)
    await world.live(15)
    assert world.phase == "Suspending"
    await world.live(20, until=lambda: world.phase == "Suspended")
    assert "no checkpoint was acknowledged" in str(world.status["attempts"][-1]["message"])


async def test_suspended_from_the_start_makes_nothing() -> None:
    world = World()
    world.submit(suspend=True)
    await world.live(5)
    assert world.phase == "Suspended"
    assert world.cluster.all(POD) == [] and world.cluster.all(SECRET) == []


async def test_suspended_while_nothing_ran_needs_no_checkpoint() -> None:
    world = World()
    world.trains = False
    world.submit()
    await world.live(3)
    world.change(suspend=True)
    await world.reconcile()
    assert world.phase == "Suspended"


async def test_an_edit_while_suspended_makes_a_new_revision_and_config() -> None:
    world = await running()
    world.change(suspend=True)
    await world.live(20, until=lambda: world.phase == "Suspended")
    world.change(compute={"profile": "local-cpu", "nodes": 1})
    world.change(suspend=False)
    world.coordinators.clear()
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.cluster.names(REVISION) == ["tiny-1", "tiny-2"]
    assert world.status["revision"] == "tiny-2"
    assert len(world.cluster.all(CONFIG_MAP)) == 1, "the old RunConfig is gone"
    assert world.workers("Running") == ["tiny-w0-1"]


async def test_a_traceback_fails_the_run_when_it_comes_twice() -> None:
    world = await running()
    for _ in range(2):
        leader = world.leader()
        pod = world.cluster.objects[POD, "tiny-w0-0"]
        leader.fail(
            Cause.USER_ERROR,
            Reason.PYTHON_ERROR,
            "ValueError: bad batch 17",
            pod,
            world.clock().timestamp(),
            rank=0,
            exit_code=1,
        )
        world._speak()
        await world.reconcile()
        if world.phase == "Failed":
            break
        assert world.phase == "Restarting"
        world.trains = False
        await world.live(5)
    assert world.phase == "Failed"
    complete = world.condition("Complete")
    assert (complete["status"], complete["reason"]) == ("False", "PythonError")
    assert "ValueError: bad batch 17" in complete["message"]
    assert world.status["failures"] == {"UserError": 2}
    await world.live(10)
    assert world.workers("Running") == [] and world.workers() == ["tiny-w0-0", "tiny-w1-0"], "logs stay"
    assert "tiny-c1" not in world.cluster.names(POD)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        pytest.param(Cause.IMAGE_OR_CONFIG, Reason.DATA_MISSING, id="missing-data"),
        pytest.param(Cause.IMAGE_OR_CONFIG, Reason.DATA_CORRUPT, id="corrupt-shard"),
        pytest.param(Cause.STORAGE, Reason.STORAGE_FULL, id="full-volume-without-a-checkpoint"),
    ],
)
async def test_what_no_restart_mends_fails_at_once(cause: Cause, reason: Reason) -> None:
    world = World()
    world.trains = False
    world.submit()
    await world.live(3)
    pod = world.cluster.objects[POD, "tiny-w0-0"]
    world.leader().fail(cause, reason, "what is wrong", pod, world.clock().timestamp(), exit_code=78)
    world._speak()
    await world.reconcile()
    assert world.phase == "Failed"
    assert world.condition("Complete")["reason"] == reason
    assert "what is wrong" in world.condition("Progressing")["message"]


async def test_an_unpullable_image_fails_the_run() -> None:
    world = World()
    world.submit()
    await world.live(5, until=lambda: bool(world.workers()))
    world.kubelet_works = False
    _wait_for(world, "tiny-w0-0", "ErrImagePull", "failed to resolve reference: manifest unknown: not found")
    await world.reconcile()
    assert world.phase == "Failed"
    assert world.condition("Complete")["reason"] == "ImagePull"
    assert "not found" in world.condition("Complete")["message"]


async def test_a_registry_hiccup_is_a_condition_and_no_end() -> None:
    world = World()
    world.submit()
    await world.live(5, until=lambda: bool(world.workers()))
    world.kubelet_works = False
    _wait_for(world, "tiny-w0-0", "ErrImagePull", "failed to do request: dial tcp: i/o timeout")
    await world.reconcile()
    assert world.phase == "Starting"
    said = world.condition("Progressing")
    assert (said["status"], said["reason"]) == ("False", "ImagePull")


async def test_what_the_scheduler_says_is_a_condition_and_the_deadline_ends_it() -> None:
    world = World()
    world.submit(resilience={"startupDeadlineSeconds": 30})
    await world.live(5, until=lambda: bool(world.workers()))
    world.kubelet_works = False
    pod = copy.deepcopy(world.cluster.objects[POD, "tiny-w0-0"])
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    pod["status"] = {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        ],
    }
    world.cluster.put(pod)
    await world.reconcile()
    said = world.condition("Progressing")
    assert (said["reason"], message in said["message"]) == ("Unschedulable", True)
    await world.live(60, until=lambda: world.phase == "Failed")
    assert world.condition("Complete")["reason"] == "StartupDeadline"
    assert message in world.condition("Complete")["message"]


async def test_a_foreign_child_is_a_condition_and_heals() -> None:
    world = World()
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "tiny-coordinator",
            "ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "u", "controller": True}],
        },
    }
    world.cluster.put(foreign)
    world.submit()
    await world.reconcile()
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "ChildConflict")
    assert "Service tiny-coordinator exists and belongs to Deployment web" in said["message"]
    world.cluster.bury(SERVICE, "tiny-coordinator")
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.condition("Reconciled")["status"] == "True"


async def test_a_deleted_secret_comes_back_as_it_was() -> None:
    world = await running()
    before = world.cluster.objects[SECRET, "tiny-run"]["data"]
    world.cluster.bury(SECRET, "tiny-run")
    world.trains = False
    await world.live(400, until=lambda: bool(world.cluster.names(SECRET)))
    assert world.cluster.objects[SECRET, "tiny-run"]["data"] == before


async def test_the_last_words_of_a_pod_that_cannot_start_are_told() -> None:
    world = World()
    world.trains = False
    world.submit()
    await world.live(5, until=lambda: bool(world.workers("Running")))
    pod = copy.deepcopy(world.cluster.objects[POD, "tiny-w0-0"])
    ended = {"exitCode": 78, "reason": "Error", "message": "agent: FOOTPLATE_RUN_CONFIG cannot be read\n"}
    pod["status"] |= {"phase": "Failed", "containerStatuses": [{"state": {"terminated": ended}}]}
    world.cluster.put(pod)
    await world.reconcile()
    assert world.phase == "Failed"
    assert world.condition("Complete")["message"].endswith("78: agent: FOOTPLATE_RUN_CONFIG cannot be read")


async def test_a_refused_manifest_fails_the_run_and_a_quota_does_not() -> None:
    quota, wrong = World(), World()
    quota.cluster.refuse["create", POD] = Forbidden("exceeded quota: gpus", 403, "Forbidden")
    wrong.cluster.refuse["create", POD] = Invalid("volumeMounts[0].name: not found", 422, "Invalid")
    for world in (quota, wrong):
        world.submit()
        await world.live(2)
    assert (quota.phase, wrong.phase) == ("Starting", "Failed")
    assert "exceeded quota" in quota.condition("Reconciled")["message"]
    assert "volumeMounts" in wrong.condition("Complete")["message"]
    quota.cluster.refuse.clear()
    await quota.live(30, until=lambda: quota.phase == "Running")


async def test_deletion_leaves_nothing() -> None:
    world = await running()
    world.cluster.bury(TRAINING_RUN, NAME)
    await world.reconcile()
    world._kubelet()
    left = [f"{kind.name} {name}" for kind, name in world.cluster.objects if kind not in (PROFILE, EVENT)]
    assert left == []
    deletions = [call for call in world.cluster.calls if call.startswith("delete_all")]
    assert deletions[0] == "delete_all Pod", "what holds a GPU goes first"


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


async def test_a_finished_coordinator_stays_until_its_telemetry_is_out() -> None:
    world = await running()
    world.leader().backlog = 5
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(20)
    assert "tiny-c1" in world.cluster.names(POD)
    world.leader().backlog = 0
    await world.live(3)
    assert "tiny-c1" not in world.cluster.names(POD)


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
    assert sorted(each["reason"] for each in world.cluster.all(EVENT)) == ["Running", "Starting", "Succeeded"]


def _training(**changes: Any) -> dict[str, Any]:
    return {**run_manifest()["spec"]["training"], **changes}


def _uids(world: World, *names: str) -> list[str]:
    return [world.cluster.objects[POD, name]["metadata"]["uid"] for name in names]


def _container(world: World, pod: str) -> dict[str, Any]:
    container: dict[str, Any] = world.cluster.objects[POD, pod]["spec"]["containers"][0]
    return container


def _wait_for(world: World, name: str, reason: str, message: str) -> None:
    pod = copy.deepcopy(world.cluster.objects[POD, name])
    pod["status"] = {
        "phase": "Pending",
        "containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}],
    }
    world.cluster.put(pod)
