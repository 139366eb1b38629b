"""A pod is judged by its trainer container, whatever init containers and sidecars do."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_operator.runtime.kinds import POD, Json
from footplate_operator.trainingrun.observation import PodView, view_pod
from tests.support.fake_cluster import copied
from tests.support.operator_fakes import profile_manifest
from tests.support.operator_world import World

RUNS: Json = {"running": {"startedAt": "2026-01-31T11:59:10Z"}}
WAITS: Json = {"waiting": {"reason": "PodInitializing"}}
SIDECAR: Json = {"containers": [{"name": "metrics", "image": "metrics:1"}]}


def ended(code: int, message: str = "") -> Json:
    times = {"startedAt": "2026-01-31T11:59:10Z", "finishedAt": "2026-01-31T11:59:20Z"}
    return {"terminated": {"exitCode": code, "message": message, **times}}


def pod(
    trainer: Json,
    metrics: Json | None = None,
    init: Json | None = None,
    *,
    spec: Json | None = None,
    **status: Any,
) -> PodView:
    """A worker whose sidecar, which comes first, and trainer have these states."""
    sidecars = [] if metrics is None else [{"name": "metrics"}]
    shown = [] if metrics is None else [{"name": "metrics", "state": metrics, "ready": "running" in metrics}]
    shown.append({"name": "trainer", "state": trainer, "ready": "running" in trainer})
    prepared = [] if init is None else [{"name": "download", "state": init}]
    return view_pod(
        {
            "metadata": {"name": "tiny-w1-0", "uid": "u", "creationTimestamp": "2026-01-31T11:59:00Z"},
            "spec": {"nodeName": "node-1", "containers": [*sidecars, {"name": "trainer"}], **(spec or {})},
            "status": {
                "phase": "Running",
                "initContainerStatuses": prepared,
                "containerStatuses": shown,
                **status,
            },
        }
    )


@pytest.mark.parametrize(
    ("view", "phase", "code", "lingers"),
    [
        pytest.param(pod(RUNS, RUNS), "Running", None, False, id="both-run"),
        pytest.param(pod(RUNS, ended(1)), "Running", None, False, id="sidecar-failed-first"),
        pytest.param(pod(ended(0), RUNS), "Succeeded", 0, True, id="sidecar-runs-on"),
        pytest.param(pod(ended(74), RUNS), "Failed", 74, True, id="trainer-failed-sidecar-runs-on"),
        pytest.param(
            pod(ended(0), ended(1), phase="Failed"), "Succeeded", 0, False, id="sidecar-failed-last"
        ),
        pytest.param(
            pod(
                ended(0),
                ended(137),
                spec={"activeDeadlineSeconds": 1},
                phase="Failed",
                reason="DeadlineExceeded",
                message="Pod was active on the node longer than the specified deadline",
            ),
            "Succeeded",
            0,
            False,
            id="sidecar-was-ended",
        ),
        pytest.param(
            pod(ended(0), RUNS, spec={"activeDeadlineSeconds": 1}), "Succeeded", 0, False, id="ending"
        ),
        pytest.param(
            pod(ended(137), ended(137), phase="Failed", reason="Evicted"), "Failed", 137, False, id="evicted"
        ),
        pytest.param(pod(WAITS, init=ended(3), phase="Failed"), "Failed", 3, False, id="init-failed"),
    ],
)
def test_a_pod_ends_as_its_trainer(view: PodView, phase: str, code: int | None, lingers: bool) -> None:
    assert (view.phase, view.exit_code, view.lingers) == (phase, code, lingers)


def test_the_deadline_of_sidecars_is_no_cause() -> None:
    view = pod(
        ended(74, "disk full"),
        ended(137),
        phase="Failed",
        reason="DeadlineExceeded",
        message="Pod was active on the node longer than the specified deadline",
    )
    assert (view.reason, view.message) == ("", "disk full")


def test_a_failed_init_container_is_named() -> None:
    view = pod(WAITS, init=ended(3, "no such bucket"), phase="Failed")
    assert (view.started, view.message) == (False, "init container download: no such bucket")


def test_a_pod_has_not_started_while_an_init_container_runs() -> None:
    view = pod(WAITS, init=RUNS, phase="Pending")
    assert (view.started, view.accepted, view.waiting_reason) == (False, True, "PodInitializing")


def test_an_init_container_without_an_image_is_what_a_pod_waits_for() -> None:
    pulling = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    assert pod(WAITS, init=pulling, phase="Pending").waiting_reason == "ErrImagePull"
    assert pod(RUNS, pulling).waiting_reason == "", "a trainer that runs waits for no sidecar"


@pytest.mark.parametrize(
    ("view", "ready"),
    [
        pytest.param(pod(RUNS, RUNS, conditions=[{"type": "Ready", "status": "True"}]), True, id="both"),
        pytest.param(
            pod(
                RUNS,
                ended(0),
                conditions=[{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
            ),
            True,
            id="sidecar-ended",
        ),
        pytest.param(
            pod(RUNS, RUNS, conditions=[{"type": "Ready", "status": "False"}]), False, id="node-not-ready"
        ),
        pytest.param(
            pod(RUNS, conditions=[{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]),
            False,
            id="no-sidecar",
        ),
    ],
)
def test_a_sidecar_that_ended_does_not_make_a_worker_unready(view: PodView, ready: bool) -> None:
    assert view.ready is ready


async def test_a_run_ends_though_its_sidecars_run_on_and_they_are_ended() -> None:
    world = World()
    world.cluster.put(profile_manifest(podTemplate={"spec": SIDECAR}))
    world.submit()
    kubelet = world.end_pod

    def end_trainer(name: str, code: int, *rest: str, **more: str) -> None:
        """The trainer ends, and its sidecar with the pod's deadline only."""
        before = copied(world.cluster.objects[POD, name])
        kubelet(name, code, *rest, **more)
        if before["spec"].get("activeDeadlineSeconds") or "-c" in name:
            return
        body = copied(world.cluster.objects[POD, name])
        body["status"]["phase"] = "Running"
        (trainer,) = body["status"]["containerStatuses"]
        body["status"]["containerStatuses"] = [
            {**trainer, "name": "trainer"},
            {"name": "metrics", "state": RUNS},
        ]
        world.cluster.put(body)

    world.end_pod = end_trainer  # the kubelet of this world
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(2)
    workers = [pod for pod in world.cluster.all(POD) if "-w" in pod["metadata"]["name"]]
    assert [pod["spec"].get("activeDeadlineSeconds") for pod in workers] == [1, 1]
    assert world.status["attempts"][-1].get("cause") is None
