"""The operator as a process: kopf, the API server's validation, TLS, the long-poll, the Lease."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.kubernetes.envtest import ApiServer
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
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import Process, operator_process
from tests.component.footplate_operator.kubelet import Node
from tests.support.connection import Json
from tests.support.operator_fakes import run_manifest


def _run(api: Api, steps: int = 60, **spec: Any) -> Json:
    body = run_manifest(**spec)
    body["metadata"] = {"name": "tiny", "namespace": api.namespace}
    body["spec"]["training"]["steps"] = steps
    return body


def _phase(api: Api, *phases: str, seconds: float = 60.0) -> Json:
    def look() -> Json | None:
        status = api.status("tiny")
        return status if status.get("phase") in phases else None

    return wait_for(look, f"phase {phases}", seconds)


def _condition(status: Json, kind: str) -> Json:
    return next((condition for condition in status.get("conditions", []) if condition["type"] == kind), {})


def _trains_in(api: Api, generation: str) -> Json | None:
    status = api.status("tiny")
    ready = status["phase"] == "Running" and status["world"]["generation"] == generation
    return status if ready else None


def test_a_run_lives_from_apply_to_succeeded(operator: Process, api: Api, node: Node) -> None:
    api.apply(_run(api, steps=150))  # so many that it still trains when the change comes
    _phase(api, "Running")
    longer = {"spec": {"training": {"steps": 165}, "checkpoint": {"keepLast": 2}}}
    api("patch", "trun", "tiny", "--type=merge", "-p", json.dumps(longer))
    status = _phase(api, "Succeeded")
    assert (status["progress"]["step"], status["progress"]["totalSteps"], status["restarts"]) == (165, 165, 0)
    assert status["checkpoint"]["latestStep"] == 165
    assert status["world"]["ranks"] == 4
    api("wait", "trun/tiny", "--for=condition=Complete", "--timeout=5s")
    run = api.get(TRAINING_RUN, "tiny")
    assert run is not None and "finalizers" not in run["metadata"]
    created = datetime.fromisoformat(run["metadata"]["creationTimestamp"])
    wall = (datetime.fromisoformat(status["completionTime"]) - created).total_seconds()
    assert abs(sum(status["wallSeconds"].values()) - wall) <= 0.01 * wall + 0.01
    wait_for(lambda: api.names(POD) == ["tiny-w0-0", "tiny-w1-0"], "the coordinator goes last")
    told = {"Starting", "Running", "Succeeded"}  # each right after the status, and so after what we have seen
    wait_for(lambda: told <= {event["reason"] for event in api.find(EVENT)}, f"Events: {told}")
    assert "Traceback" not in operator.log.read_text()


def test_a_killed_worker_and_a_killed_coordinator_are_replaced(
    operator: Process, api: Api, node: Node
) -> None:
    api.apply(_run(api, steps=400))
    _phase(api, "Running")
    node.kill("tiny-w1-0")
    wait_for(lambda: "tiny-w1-1" in api.names(POD), "a substitute", 10)
    status = wait_for(lambda: _trains_in(api, "1.2"), "a second generation trains")
    assert status["restarts"] == 1 and status["failures"] == {"NodeLost": 1}
    node.kill("tiny-c1")
    wait_for(lambda: api.status("tiny")["coordinator"].get("podName") == "tiny-c2", "the next epoch", 20)
    assert {"tiny-w0-0", "tiny-w1-1"} <= set(api.names(POD))


def test_a_run_is_scaled_while_it_trains(operator: Process, api: Api, node: Node) -> None:
    """It had no bounds when it was admitted."""
    api.apply(_run(api, steps=2000, compute={"profile": "local-cpu", "nodes": 1}))
    _phase(api, "Running")
    bounds = {"spec": {"compute": {"nodes": 2, "minNodes": 1, "maxNodes": 2}}}
    api("patch", "trun", "tiny", "--type=merge", "-p", json.dumps(bounds))
    status = wait_for(lambda: _trains_in(api, "1.2"), "two nodes train")
    assert status["world"]["nodes"] == 2
    api("scale", "trun", "tiny", "--replicas=1")
    status = wait_for(lambda: _trains_in(api, "1.3"), "one node trains")
    wait_for(lambda: api.names(POD) == ["tiny-c1", "tiny-w0-0"], "the other is given back", 20)
    assert [attempt["nodes"] for attempt in status["attempts"]] == [1, 2, 1]
    assert (status["restarts"], status.get("failures", {})) == (0, {})


@pytest.mark.long
def test_a_spare_becomes_the_worker_that_was_lost(operator: Process, api: Api, node: Node) -> None:
    api.apply(_run(api, steps=2000, compute={"profile": "local-cpu", "nodes": 2, "spares": 1}))
    _phase(api, "Running")
    wait_for(lambda: api.status("tiny")["world"]["spares"] == 1 or None, "the spare waits")
    node.kill("tiny-w1-0")
    status = wait_for(lambda: _trains_in(api, "1.2"), "the spare trains", 20)
    assert (status["restarts"], status["failures"]) == (1, {"NodeLost": 1})
    workers = wait_for(lambda: _named(api, "worker", "tiny-s0-1"), "the spare is labelled a worker", 10)
    assert workers == ["tiny-s0-1", "tiny-w0-0", "tiny-w1-0"]
    wait_for(lambda: _named(api, "spare", "tiny-s0-102"), "another spare is made", 10)


def _named(api: Api, role: str, name: str) -> list[str] | None:
    names = [pod["metadata"]["name"] for pod in api.find(POD, f"footplate.dev/role={role}")]
    return names if name in names else None


def test_suspension_saves_and_resumption_goes_on(operator: Process, api: Api, node: Node) -> None:
    api.apply(_run(api, steps=400))
    _phase(api, "Running")
    api("patch", "trun", "tiny", "--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
    api("wait", "trun/tiny", "--for=condition=Suspended", "--timeout=20s")
    status = _phase(api, "Suspended")
    saved = status["checkpoint"]["latestStep"]
    assert saved > 0
    wait_for(lambda: not api.find(POD, "footplate.dev/role=worker") or None, "workers are gone", 20)
    api("patch", "trun", "tiny", "--type=merge", "-p", json.dumps({"spec": {"suspend": False}}))
    api("wait", "trun/tiny", "--for=condition=Suspended=False", "--timeout=20s")
    status = _phase(api, "Running")
    assert status["coordinator"]["epoch"] == 2
    assert status["attempts"][-1]["startStep"] >= saved
    assert status["restarts"] == 0


def _train_until_the_operator_is_killed(server: ApiServer, api: Api, folder: Path) -> None:
    with operator_process(server, folder, "first") as first:
        api.apply(_run(api, steps=2000))
        _phase(api, "Running")
        first.process.kill()


def test_an_operator_restart_touches_no_pod(server: ApiServer, api: Api, node: Node, tmp_path: Path) -> None:
    _train_until_the_operator_is_killed(server, api, tmp_path)
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in api.find(POD)}
    step = api.status("tiny")["progress"]["step"]
    with operator_process(server, tmp_path, "first") as second:
        wait_for(lambda: api.status("tiny")["progress"]["step"] > step or None, "progress is seen again")
        assert second.said("message=created") == 0
    assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in api.find(POD)} == before
    assert api.status("tiny")["restarts"] == 0


def test_a_revision_of_another_release_is_named_and_touches_no_pod(
    server: ApiServer, api: Api, node: Node, tmp_path: Path
) -> None:
    _train_until_the_operator_is_killed(server, api, tmp_path)
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in api.find(POD)}
    _write_revision_anew(api, "tiny-1", "9.0.0", stage="dream")
    with operator_process(server, tmp_path, "first") as second:
        said = wait_for(lambda: _unreadable(api), "the condition")
        assert "cannot read ControllerRevision tiny-1: operator 9.0.0 wrote it (config.stage: " in said
        assert second.said("Traceback") == 0
    assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in api.find(POD)} == before
    assert api.status("tiny")["phase"] == "Running"


def _write_revision_anew(api: Api, name: str, release: str, stage: str) -> None:
    """As `release` would have written it: its data cannot be changed in place."""
    body = api.get(REVISION, name)
    assert body is not None
    known = body["metadata"]
    body["metadata"] = {key: known[key] for key in ("name", "namespace", "labels", "ownerReferences")}
    body["metadata"]["annotations"] = {"footplate.dev/written-by": release}
    body["data"]["config"]["stage"] = stage
    api("delete", "controllerrevision", name)
    api.apply(body)


def _unreadable(api: Api) -> str | None:
    reconciled = _condition(api.status("tiny"), "Reconciled")
    return str(reconciled["message"]) if reconciled.get("reason") == "RevisionUnreadable" else None


def test_a_second_replica_waits_and_takes_over(server: ApiServer, api: Api, tmp_path: Path) -> None:
    with operator_process(server, tmp_path, "first") as first:
        wait_for(lambda: first.said("message=leading"), "the first leads")
        with operator_process(server, tmp_path, "second") as second:
            wait_for(lambda: second.said("waiting for the Lease"), "the second waits")
            assert second.said("message=leading") == 0
            first.process.terminate()
            assert first.process.wait(timeout=10) == 0
            wait_for(lambda: second.said("message=leading"), "the second takes over", 10)


def test_a_leader_that_is_told_to_end_while_it_starts_to_watch_ends_well(
    server: ApiServer, tmp_path: Path
) -> None:
    with operator_process(server, tmp_path) as operator:
        wait_for(lambda: operator.said("message=leading"), "it leads", pause=0.002)
        operator.process.terminate()
        assert operator.process.wait(timeout=20) == 0


def test_deletion_leaves_nothing(operator: Process, api: Api, node: Node) -> None:
    api.apply(_run(api, steps=2000))
    _phase(api, "Running")
    api("delete", "trun", "tiny", "--wait=true", "--timeout=5s")

    def left() -> list[str]:
        # Garbage collection, of which there is none here, takes the Secret.
        kinds = (POD, CONFIG_MAP, SERVICE, DISRUPTION_BUDGET, REVISION)
        return [
            f"{kind.plural}/{name}"
            for kind in kinds
            for name in api.names(kind)
            if name != "kube-root-ca.crt"
        ]

    wait_for(lambda: not left() or None, "nothing is left", 15)


@pytest.mark.long
def test_a_run_applied_again_at_once_does_not_wait_for_dead_nodes(
    operator: Process, api: Api, node: Node
) -> None:
    api.apply(_run(api, steps=2000))
    _phase(api, "Running")
    node.die()
    api("delete", "trun", "tiny", "--wait=true", "--timeout=5s")
    api.apply(_run(api, steps=2000))
    status = _phase(api, "Running", seconds=15)
    assert (status["coordinator"]["podName"], status["restarts"]) == ("tiny-c2", 0)
    terminating = {pod["metadata"]["uid"] for pod in api.find(POD) if "deletionTimestamp" in pod["metadata"]}
    assert terminating == node.dead
    assert operator.said("ChildConflict") == 0


@pytest.mark.long
def test_a_run_applied_again_while_the_operator_is_away_does_not_wait_for_garbage_collection(
    server: ApiServer, api: Api, node: Node, tmp_path: Path
) -> None:
    """Nothing collects garbage on this API server."""
    _train_until_the_operator_is_killed(server, api, tmp_path)
    node.die()
    before = {child["metadata"]["uid"] for child in api.find(SECRET) + api.find(SERVICE)}
    api("delete", "trun", "tiny", "--wait=true", "--timeout=5s")
    api.apply(_run(api, steps=2000))
    with operator_process(server, tmp_path, "first"):
        _phase(api, "Running")
    assert before.isdisjoint(child["metadata"]["uid"] for child in api.find(SECRET) + api.find(SERVICE))


def test_a_missing_profile_heals(operator: Process, api: Api) -> None:
    api.apply(_run(api, compute={"profile": f"later-{api.namespace}", "nodes": 2}))
    status = _phase(api, "Queued", seconds=10)
    assert _condition(status, "Reconciled")["reason"] == "ProfileNotFound"
    profile = {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "ComputeProfile",
        "metadata": {"name": f"later-{api.namespace}"},
        "spec": {"backend": "gloo", "processesPerNode": 2},
    }
    api.apply(profile)
    _phase(api, "Starting", seconds=10)


def test_a_pod_that_the_api_server_refuses_is_told_within_seconds(
    operator: Process, api: Api, node: Node
) -> None:
    trainer = {"volumeMounts": [{"name": "nowhere", "mountPath": "/data"}]}
    api.apply(_run(api, trainer=trainer))

    def refused() -> str:
        reconciled = _condition(api.status("tiny"), "Reconciled")
        return str(reconciled["message"]) if reconciled.get("status") == "False" else ""

    assert "nowhere" in wait_for(refused, "the condition", 15)


def test_metrics_health_and_memory(operator: Process, api: Api) -> None:
    assert (operator.ask("/healthz"), operator.ask("/readyz")) == ((200, "ok\n"), (200, "ok\n"))
    api.apply(_run(api))
    wait_for(lambda: api.status("tiny").get("phase"), "it acts")
    _, text = operator.ask("/metrics")
    assert "footplate_operator_leader_election_master_status 1.0" in text
    assert 'footplate_operator_runs{phase="Running"}' in text
    for counted in (
        'api_requests_total{code="201",method="POST"}',
        "workqueue_queue_duration_seconds_count",
        "loop_lag_seconds",
        'watch_last_event_timestamp_seconds{kind="Pod"}',
    ):
        value = re.search(rf"^footplate_operator_{re.escape(counted)} (\S+)$", text, re.MULTILINE)
        assert value is not None and float(value[1]) > 0, counted
    assert operator.resident_mebibytes() <= 120
