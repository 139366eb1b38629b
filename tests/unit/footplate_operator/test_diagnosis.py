"""What pods show, as an API server gives it, and what that is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from footplate_contracts.names import Cause, Reason
from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.observation import LostWorker, PodView, view_pod
from footplate_operator.trainingrun.policies import startup
from footplate_operator.trainingrun.policies.diagnosis import diagnose, worst
from footplate_operator.trainingrun.policies.failure import FailureSource
from footplate_operator.trainingrun.status.failures import from_lost
from tests.support.operator_fakes import profile_manifest
from tests.support.operator_world import World

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NEVER = float("inf")


def pod(status: dict[str, Any], **metadata: Any) -> PodView:
    return view_pod(
        {
            "metadata": {
                "name": "tiny-w1-0",
                "uid": "u",
                "creationTimestamp": "2026-01-31T11:59:00Z",
                "labels": {"footplate.dev/role": "worker", "footplate.dev/index": "1"},
                **metadata,
            },
            "spec": {"nodeName": "node-1"},
            "status": status,
        }
    )


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"state": state}]}


def unscheduled(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


@pytest.mark.parametrize(
    ("status", "reason", "seconds_left"),
    [
        pytest.param(waiting("InvalidImageName"), Reason.ERR_IMAGE_PULL, 0, id="invalid-name"),
        pytest.param(waiting("ErrImageNeverPull"), Reason.ERR_IMAGE_PULL, 0, id="never-pull"),
        pytest.param(
            waiting("ErrImagePull", 'failed to resolve reference "x": x: not found'),
            Reason.ERR_IMAGE_PULL,
            0,
            id="not-found",
        ),
        pytest.param(
            waiting("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: 401 Unauthorized'),
            Reason.ERR_IMAGE_PULL,
            0,
            id="unauthorized",
        ),
        pytest.param(
            waiting("ErrImagePull", "failed to do request: dial tcp: lookup registry: no such host"),
            Reason.ERR_IMAGE_PULL,
            0,
            id="no-such-registry",
        ),
        pytest.param(
            waiting("ErrImagePull", "failed to do request: dial tcp 10.0.0.1:443: i/o timeout"),
            Reason.ERR_IMAGE_PULL,
            NEVER,
            id="network-hiccup",
        ),
        pytest.param(
            waiting("ErrImagePull", "Head: dial tcp [::1]:443: connect: connection refused"),
            Reason.ERR_IMAGE_PULL,
            0,
            id="no-registry-on-the-node",
        ),
        pytest.param(
            waiting("ErrImagePull", "Head: dial tcp 10.0.0.1:443: connect: connection refused"),
            Reason.ERR_IMAGE_PULL,
            NEVER,
            id="registry-restarts",
        ),
        pytest.param(
            waiting("ErrImagePull", "unexpected status: 503 Service Unavailable"),
            Reason.ERR_IMAGE_PULL,
            NEVER,
            id="registry-hiccup",
        ),
        pytest.param(
            waiting("ImagePullBackOff", 'Back-off pulling image "x"'),
            Reason.ERR_IMAGE_PULL,
            NEVER,
            id="waits-without-a-word",
        ),
        pytest.param(
            waiting("ImagePullBackOff", 'Back-off pulling image "sierra/trainer:1"'),
            Reason.ERR_IMAGE_PULL,
            NEVER,
            id="a-name-that-looks-like-an-error",
        ),
        pytest.param(
            waiting("ErrImagePull", 'failed to resolve reference "x/y:502": x/y:502: not found'),
            Reason.ERR_IMAGE_PULL,
            0,
            id="a-tag-that-looks-like-a-hiccup",
        ),
        pytest.param(
            waiting("ErrImagePull", "failed: reading manifest: toomanyrequests: your pull rate limit"),
            Reason.ERR_IMAGE_PULL,
            NEVER,
            id="rate-limit",
        ),
        pytest.param(
            waiting("ErrImagePull", "failed to extract layer: write /var: no space left on device"),
            Reason.ERR_IMAGE_PULL,
            NEVER,
            id="full-node",
        ),
        pytest.param(
            waiting("CreateContainerConfigError", 'secret "s3" not found'),
            Reason.CREATE_CONTAINER_CONFIG_ERROR,
            60,
            id="missing-secret",
        ),
        pytest.param(
            unscheduled("0/3 nodes are available: 3 Insufficient cpu."),
            Reason.UNSCHEDULABLE,
            NEVER,
            id="no-room",
        ),
        pytest.param(
            unscheduled('0/3 nodes are available: persistentvolumeclaim "shared" not found.'),
            Reason.FAILED_MOUNT,
            60,
            id="missing-claim",
        ),
        pytest.param(
            unscheduled("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
            Reason.FAILED_MOUNT,
            NEVER,
            id="unbound-claim",
        ),
        pytest.param(waiting("ContainerCreating"), None, None, id="on-its-way"),
        pytest.param({"phase": "Running"}, None, None, id="running"),
    ],
)
def test_diagnosis(status: dict[str, Any], reason: Reason | None, seconds_left: float | None) -> None:
    found = diagnose(pod(status))
    assert (found.reason if found else None, found.seconds_left if found else None) == (reason, seconds_left)
    assert found is None or found.message.startswith("pod tiny-w1-0: ")


def test_of_two_pods_beyond_hope_the_one_that_is_so_for_longer_is_named() -> None:
    missing = pod(waiting("CreateContainerConfigError", 'secret "s3" not found'))
    refused = pod(waiting("ErrImagePull", "pull access denied"))
    found = worst([missing, refused], NOW + timedelta(seconds=30))  # both wait for 90 s
    assert found is not None and (found.reason, found.seconds_left) == (Reason.ERR_IMAGE_PULL, -90)
    failed = startup.find_fatal_problem(found, None, [])
    assert failed is not None and failed.message == found.message


def test_a_terminating_pod_is_not_waited_for() -> None:
    assert diagnose(pod(waiting("ErrImageNeverPull"), deletionTimestamp="2026-01-31T12:00:00Z")) is None


def ended(code: int, terminated: str = "Error", **status: Any) -> dict[str, Any]:
    state = {"exitCode": code, "reason": terminated, "finishedAt": "2026-01-31T11:59:30Z"}
    return {"phase": "Failed", "containerStatuses": [{"state": {"terminated": state}}], **status}


@pytest.mark.parametrize(
    ("status", "metadata", "cause", "reason"),
    [
        pytest.param(ended(1), {}, Cause.USER_ERROR, Reason.POD_FAILED, id="user-error"),
        pytest.param(ended(74), {}, Cause.STORAGE, Reason.STORAGE_ERROR, id="storage"),
        pytest.param(ended(78), {}, Cause.IMAGE_OR_CONFIG, Reason.CONFIG_REFUSED, id="config"),
        pytest.param(ended(80), {}, Cause.NODE_LOST, Reason.POD_FAILED, id="another-took-its-place"),
        pytest.param(
            ended(128, "StartError"), {}, Cause.IMAGE_OR_CONFIG, Reason.CONTAINER_CANNOT_RUN, id="no-program"
        ),
        pytest.param(
            ended(137, "OOMKilled"), {}, Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, id="out-of-memory"
        ),
        pytest.param(ended(137), {}, Cause.NODE_LOST, Reason.POD_FAILED, id="killed"),
        pytest.param(ended(143), {}, Cause.NODE_LOST, Reason.POD_FAILED, id="terminated"),
        pytest.param(ended(137, reason="Evicted"), {}, Cause.PREEMPTED, "Evicted", id="evicted"),
        pytest.param(
            ended(
                143,
                conditions=[
                    {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
                ],
            ),
            {},
            Cause.PREEMPTED,
            "PreemptionByScheduler",
            id="preempted",
        ),
        pytest.param(
            ended(
                137,
                conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}],
            ),
            {},
            Cause.NODE_LOST,
            "DeletionByPodGC",
            id="its-node-is-gone",
        ),
        pytest.param(
            {"phase": "Running"},
            {"deletionTimestamp": "2026-01-31T12:00:00Z"},
            Cause.NODE_LOST,
            Reason.POD_DELETED,
            id="deleted",
        ),
        pytest.param({"phase": "Running"}, {}, Cause.NODE_LOST, Reason.AGENT_LOST, id="silent"),
    ],
)
def test_what_the_end_of_a_pod_says(
    status: dict[str, Any], metadata: dict[str, Any], cause: Cause, reason: str
) -> None:
    told = from_lost(LostWorker(1, pod(status, **metadata)), "1.1", NOW)
    assert (told.report.cause, told.report.reason, told.source) == (cause, reason, FailureSource.KUBERNETES)


def test_a_pod_that_is_gone_was_deleted() -> None:
    told = from_lost(LostWorker(1, None), "", NOW)
    assert (told.report.cause, told.report.message) == (Cause.NODE_LOST, "the pod of worker 1 was deleted")


def test_what_a_pod_says_fits_into_a_status() -> None:
    status = ended(1, reason="Evicted" + "x" * 100, message="y" * 5000)
    report = from_lost(LostWorker(1, pod(status)), "1.1", NOW).report
    assert len(report.message) <= 1024 and len(report.reason) <= 64


async def test_a_claim_template_that_is_not_there_is_named_within_ten_seconds() -> None:
    world = World()
    claim = {"name": "gpus", "resourceClaimTemplateName": "eight-gpus"}
    world.cluster.put(profile_manifest(resourceClaims=[claim]))
    world.submit()
    await world.live(10, until=lambda: bool(world.workers()))
    world.kubelet_works = False
    told = 'PodResourceClaim gpus: resource claim template "eight-gpus": not found'
    for body in world.cluster.all(POD):
        world.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{body['metadata']['name']}.1"},
                "involvedObject": {"uid": body["metadata"]["uid"]},
                "reason": "FailedResourceClaimCreation",
                "message": told,
                "lastTimestamp": "2026-01-31T12:00:01Z",
            }
        )
    await world.live(10)
    said = world.condition("Progressing")
    assert said["reason"] == "Unschedulable"
    assert f"{told}; create that ResourceClaimTemplate in namespace default" in said["message"]
    assert "resourceClaims[].resourceClaimTemplateName of the run's ComputeProfile" in said["message"]
