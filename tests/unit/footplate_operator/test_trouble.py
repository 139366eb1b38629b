"""What ends a run, what only holds it up, and what it says meanwhile."""

from __future__ import annotations

import copy

import pytest

from footplate_contracts.names import Cause, Reason
from footplate_operator.errors import Conflict, ObjectInvalid, RequestForbidden
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    EVENT,
    POD,
    REVISION,
    SERVICE,
    Json,
    Kind,
)
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.operator_fakes import run_manifest
from tests.support.operator_world import World, running


async def test_a_traceback_fails_the_run_when_it_comes_twice() -> None:
    world = await running()
    for _ in range(2):
        leader = world.coordinator()
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
    failed = world.condition("Failed")
    assert (failed["status"], failed["reason"]) == ("True", "PythonError")
    assert "ValueError: bad batch 17" in failed["message"]
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
    world.coordinator().fail(cause, reason, "what is wrong", pod, world.clock().timestamp(), exit_code=78)
    world._speak()
    await world.reconcile()
    assert world.phase == "Failed"
    assert world.condition("Failed")["reason"] == reason
    assert "what is wrong" in world.condition("Progressing")["message"]


@pytest.mark.parametrize(
    ("silent_seconds", "reason"),
    [
        pytest.param(1, Reason.DATA_MISSING, id="heard-after-the-pod-has-ended"),
        pytest.param(60, Reason.CONFIG_REFUSED, id="never-heard"),
    ],
)
async def test_who_knows_why_a_worker_ended_is_awaited_for_a_while(
    silent_seconds: float, reason: Reason
) -> None:
    """A coordinator that starts slowly is heard after the pod of a worker that failed at once has ended."""
    world = World()
    world.submit()
    await world.live(5, until=lambda: bool(world.workers()))
    world.coordinator().reachable = False
    await world.live(1)
    pod = world.cluster.objects[POD, "tiny-w0-0"]
    world.coordinator().fail(
        Cause.IMAGE_OR_CONFIG, Reason.DATA_MISSING, "no such folder", pod, world.clock().timestamp()
    )
    world.end_pod("tiny-w0-0", 78)
    await world.live(silent_seconds)
    world.coordinator().reachable = True
    await world.live(2, until=lambda: world.phase == "Failed")
    assert world.condition("Failed")["reason"] == reason


async def test_an_unpullable_image_fails_the_run() -> None:
    world = World()
    world.submit()
    await world.live(5, until=lambda: bool(world.workers()))
    world.kubelet_works = False
    _wait_for(world, "tiny-w0-0", "ErrImagePull", "failed to resolve reference: manifest unknown: not found")
    # Until then the other one may have it, and then it would be the node that has not.
    await world.live(15, until=lambda: world.phase == "Failed")
    assert world.condition("Failed")["reason"] == "ErrImagePull"
    assert "not found" in world.condition("Failed")["message"]


async def _one_node_lacks_the_image() -> World:
    """A run that has not trained yet, of which one pod is on that node; the other was taken away."""
    world = World()
    world.submit(compute={"profile": "local-cpu", "nodes": 2})
    await world.live(5, until=lambda: len(world.workers()) == 2)
    world.kubelet_works = False
    _wait_for(world, "tiny-w0-0", "ErrImagePull", "failed to resolve reference: manifest unknown: not found")
    await world.live(2)
    world.cluster.bury(POD, "tiny-w1-0")
    return world


async def test_an_image_that_one_node_lacks_ends_no_run_while_the_other_worker_is_to_be_made() -> None:
    world = await _one_node_lacks_the_image()
    await world.live(2, until=lambda: "tiny-w1-1" in world.workers())
    assert world.phase in ("Queued", "Starting")
    world.start_pod("tiny-w1-1", "10.0.0.9")
    await world.live(15)
    assert world.phase == "Starting"


async def test_an_image_that_one_node_lacks_ends_no_run_that_is_suspended() -> None:
    world = await _one_node_lacks_the_image()
    world.change(suspend=True)
    await world.live(15)
    assert world.phase == "Suspended"
    assert not world.condition("Complete") and not world.condition("Failed")


async def test_a_spare_on_a_node_without_the_image_ends_no_run() -> None:
    world = World()
    world.trains = False
    world.submit(compute={"profile": "local-cpu", "nodes": 1, "spares": 1})
    await world.live(5, until=lambda: bool(world._pods("spare")))
    await world.live(5, until=lambda: bool(world.workers("Running")))
    spare = world._pods("spare")[0]["metadata"]["name"]
    world.kubelet_works = False
    _wait_for(world, spare, "ErrImagePull", "failed to resolve reference: manifest unknown: not found")
    await world.live(15)
    assert world.phase == "Starting"


async def test_a_registry_hiccup_is_a_condition_and_no_end() -> None:
    world = World()
    world.submit()
    await world.live(5, until=lambda: bool(world.workers()))
    world.kubelet_works = False
    _wait_for(world, "tiny-w0-0", "ErrImagePull", "failed to do request: dial tcp: i/o timeout")
    await world.reconcile()
    assert world.phase == "Starting"
    said = world.condition("Progressing")
    assert (said["status"], said["reason"]) == ("False", "ErrImagePull")


async def test_what_the_scheduler_says_is_a_condition_and_no_deadline_ends_it() -> None:
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
    await world.live(120)
    assert world.phase == "Queued"
    assert not world.condition("Complete") and not world.condition("Failed")
    assert world.condition("Progressing")["message"].startswith("2 of 2 workers have no node, waiting since")


async def test_a_secret_has_its_minute_after_a_long_wait_for_a_node() -> None:
    world = World()
    world.submit()
    await world.live(5, until=lambda: bool(world.workers()))
    world.kubelet_works = False
    for worker in ("tiny-w0-0", "tiny-w1-0"):
        _wait_for(world, worker, "ContainerCreating", "")
    await world.live(120)
    _wait_for(world, "tiny-w0-0", "CreateContainerConfigError", "failed to sync secret cache: timed out")
    await world.live(50)
    assert world.condition("Progressing")["reason"] == "CreateContainerConfigError"
    await world.live(20, until=lambda: world.phase == "Failed")


async def test_a_refused_run_says_what_was_refused_and_no_deadline_ends_it() -> None:
    world = World()
    world.cluster.refuse["create", POD] = RequestForbidden("pods is forbidden: exceeded quota: gpus", 403)
    world.submit(resilience={"startupDeadlineSeconds": 30})
    await world.live(120)
    said = world.condition("Progressing")
    assert (world.phase, said["reason"]) == ("Queued", "QuotaExceeded")
    assert "exceeded quota" in said["message"]


async def test_an_interruption_counts_once_though_its_status_is_refused_at_first() -> None:
    world = await running()
    world.trains = False
    world.cluster.refuse["apply", TRAINING_RUN] = Conflict("modified", 409, "Conflict")
    pod = world.cluster.objects[POD, "tiny-w0-0"]
    world.coordinator().fail(
        Cause.USER_ERROR, Reason.PYTHON_ERROR, "ValueError", pod, world.clock().timestamp(), rank=0
    )
    world._speak()
    for _ in range(3):
        await world.reconcile()
        world.clock.advance(1)
    del world.cluster.refuse["apply", TRAINING_RUN]
    await world.reconcile()
    assert world.status["failures"] == {"UserError": 1}
    assert 'footplate_operator_restarts_total{cause="UserError"} 1.0' in world.metrics.text().decode()
    assert [event["reason"] for event in world.cluster.all(EVENT)].count("Restarting") == 1


async def test_a_coordinator_that_cannot_start_is_told_and_made_ever_more_rarely() -> None:
    world = World()
    world.kubelet_works = False
    world.submit(resilience={"startupDeadlineSeconds": 120})
    said: set[str] = set()
    while world.phase != "Failed":
        await world.live(1)
        said.add(world.condition("Progressing")["message"])
        for name in world.cluster.names(POD):
            if world.cluster.objects[POD, name]["status"]["phase"] == "Pending":
                world.start_pod(name, "10.0.0.9")
                world.end_pod(name, 1)
    assert "pod tiny-c1 on node node-1 ended with exit code 1" in said
    assert "ended with exit code 1" in world.condition("Failed")["message"]
    assert world.status["coordinator"]["epoch"] < 10


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(SERVICE, "tiny-coordinator", id="service"),
        pytest.param(REVISION, "tiny-1", id="revision"),
        pytest.param(DISRUPTION_BUDGET, "tiny", id="disruption-budget"),
        pytest.param(POD, "tiny-c1", id="coordinator"),
        pytest.param(POD, "tiny-w1-0", id="worker"),
        pytest.param(POD, "tiny-s0-1", id="spare"),
    ],
)
async def test_a_foreign_child_is_a_condition_and_heals(kind: Kind, name: str) -> None:
    world = World()
    uid = world.cluster.put(_foreign(kind, name))["metadata"]["uid"]
    world.submit(compute={"profile": "local-cpu", "nodes": 2, "spares": 1})
    await world.live(5)
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "ChildConflict")
    assert f"metadata.name tiny: {kind.name} {name} exists and belongs to Deployment web" in said["message"]
    assert "delete it, or give this run another name" in said["message"]
    assert world.cluster.objects[kind, name]["metadata"]["uid"] == uid, "nobody touches it"
    world.cluster.bury(kind, name)
    await world.live(60, until=lambda: world.phase == "Running")
    await world.live(2)
    assert world.condition("Reconciled")["status"] == "True"


def _foreign(kind: Kind, name: str) -> Json:
    owner = {"kind": "Deployment", "name": "web", "uid": "u", "controller": True}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"name": name, "labels": {}, "ownerReferences": [owner]},
        "spec": {},
        "status": {"phase": "Running"},
    }


async def test_a_foreign_run_config_is_a_condition_and_no_end_of_training() -> None:
    """Nobody knows its name before the run is there: it says what is in it."""
    world = await running()
    name = world.cluster.names(CONFIG_MAP)[0]
    world.cluster.bury(CONFIG_MAP, name)
    uid = world.cluster.put(_foreign(CONFIG_MAP, name))["metadata"]["uid"]
    await world.live(10, until=lambda: world.condition("Reconciled")["reason"] == "ChildConflict")
    assert (
        f"ConfigMap {name} exists and belongs to Deployment web" in world.condition("Reconciled")["message"]
    )
    assert world.phase == "Running"
    assert world.cluster.objects[CONFIG_MAP, name]["metadata"]["uid"] == uid, "nobody touches it"
    world.cluster.bury(CONFIG_MAP, name)
    await world.live(60, until=lambda: world.condition("Reconciled")["status"] == "True")
    assert name in world.cluster.names(CONFIG_MAP)


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
    assert world.condition("Failed")["message"].endswith("78: agent: FOOTPLATE_RUN_CONFIG cannot be read")


async def test_a_refused_manifest_fails_the_run_and_a_quota_does_not() -> None:
    quota, wrong = World(), World()
    quota.cluster.refuse["create", POD] = RequestForbidden("exceeded quota: gpus", 403, "Forbidden")
    wrong.cluster.refuse["create", POD] = ObjectInvalid("volumeMounts[0].name: not found", 422, "Invalid")
    for world in (quota, wrong):
        world.submit()
        await world.live(65)
    assert (quota.phase, wrong.phase) == ("Queued", "Failed")
    assert "exceeded quota" in quota.condition("Progressing")["message"]
    assert "volumeMounts" in wrong.condition("Failed")["message"]
    quota.cluster.refuse.clear()
    await quota.live(600, until=lambda: quota.phase == "Running")


def _wait_for(world: World, name: str, reason: str, message: str) -> None:
    pod = copy.deepcopy(world.cluster.objects[POD, name])
    pod["status"] = {
        "phase": "Pending",
        "containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}],
    }
    world.cluster.put(pod)


async def test_hangs_have_a_budget_of_their_own() -> None:
    training = {**run_manifest()["spec"]["training"], "steps": 10_000}
    world = await running(training=training)
    for count in range(1, 7):
        await world.live(5)  # ten looks of five steps each: past some checkpoints
        pod = world.cluster.objects[POD, "tiny-w1-0"]
        world.coordinator().fail(
            Cause.HANG, Reason.PROGRESS_DEADLINE_EXCEEDED, "stands", pod, world.clock().timestamp(), rank=3
        )
        world._speak()
        await world.reconcile()
        await world.live(20, until=lambda: world.phase in ("Running", "Failed"))
        assert world.status["failures"] == {"Hang": count}
        assert world.status["attempts"][count - 1]["reason"] == "ProgressDeadlineExceeded"
    assert world.phase == "Failed"
    assert world.condition("Failed")["message"] == "Hang 6 times, 5 allowed; last: stands"
