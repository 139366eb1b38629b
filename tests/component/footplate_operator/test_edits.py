"""What people do to the children of a run with kubectl, against a real API server and the chart's rights."""

from __future__ import annotations

import json

from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    EVENT,
    POD,
    REVISION,
    SERVICE,
    Kind,
)
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import Process
from tests.component.footplate_operator.kubelet import Node
from tests.component.footplate_operator.test_operator import _phase, _run
from tests.support.connection import Json

SAID_WITHIN_SECONDS = 10.0
MANAGED = "app.kubernetes.io/managed-by"
KINDS = (CONFIG_MAP, SERVICE, DISRUPTION_BUDGET, REVISION)


def test_edits_of_children_are_set_back_and_told(operator: Process, api: Api, node: Node) -> None:
    api.apply(_run(api, steps=100_000))
    _phase(api, "Running")
    before = {kind: _said(api, kind) for kind in KINDS}
    pods = {pod["metadata"]["name"]: _labels(pod) for pod in api.find(POD)}
    api("label", "pod", "tiny-w1-0", "footplate.dev/index=0", "footplate.dev/run-uid=mine", "--overwrite")
    api("label", "pod", "tiny-w0-0", f"{MANAGED}-")
    api("patch", "service", "tiny-coordinator", "-p", json.dumps({"spec": {"selector": {"app": "mine"}}}))
    api("patch", "pdb", "tiny", "--type=merge", "-p", json.dumps({"spec": {"maxUnavailable": 0}}))
    api("delete", "controllerrevision", "tiny-1")  # its data is immutable
    api("delete", "configmap", *(name for name in api.names(CONFIG_MAP) if name.startswith("tiny-")))
    wait_for(
        lambda: {kind: _said(api, kind) for kind in KINDS} == before or None,
        "everything is as it was",
        SAID_WITHIN_SECONDS,
    )
    wait_for(
        lambda: {pod["metadata"]["name"]: _labels(pod) for pod in api.find(POD)} == pods or None,
        "labels of pods are as they were",
        SAID_WITHIN_SECONDS,
    )
    edited = {"Pod tiny-w0-0", "Pod tiny-w1-0", "Service tiny-coordinator", "PodDisruptionBudget tiny"}
    wait_for(lambda: edited <= _edited(api), f"Events of {edited}", SAID_WITHIN_SECONDS)  # told afterwards
    step = api.status("tiny")["progress"]["step"]
    wait_for(lambda: api.status("tiny")["progress"]["step"] > step or None, "it trains on")
    status = api.status("tiny")
    assert (status["phase"], status["restarts"], len(status["attempts"])) == ("Running", 0, 1)
    assert set(api.names(POD)) == set(pods)


def _edited(api: Api) -> set[str]:
    """What Events name that was changed by hand."""
    told = [event["note"] for event in api.find(EVENT) if event["reason"] == "ChildEdited"]
    return {note.split(" was changed by hand")[0] for note in told}


def test_foreign_objects_under_our_names_are_named(operator: Process, api: Api, node: Node) -> None:
    api.apply(*_foreign(api.namespace))
    api.apply(_run(api, steps=100_000))
    # Nothing is made before the Secret, which the operator does not see and a policy keeps it from deleting.
    secret = "Secret tiny-run exists and may not be deleted"
    wait_for(lambda: secret in _conflict(api), "the Secret is named", SAID_WITHIN_SECONDS)
    api("delete", "secret", "tiny-run")
    names = {"Service tiny-coordinator", "PodDisruptionBudget tiny", "ControllerRevision tiny-1"}
    wait_for(lambda: all(name in _conflict(api) for name in names), "all are named", SAID_WITHIN_SECONDS)
    for kind, name in (
        ("service", "tiny-coordinator"),
        ("pdb", "tiny"),
        ("controllerrevision", "tiny-1"),
    ):
        api("delete", kind, name)
    _phase(api, "Running", seconds=90)


def _foreign(namespace: str) -> list[Json]:
    def named(name: str) -> Json:
        return {"name": name, "namespace": namespace}

    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": named("tiny-run")},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": named("tiny-coordinator"),
            "spec": {"ports": [{"port": 80}]},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": named("tiny"),
            "spec": {"minAvailable": 1},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": named("tiny-1"),
            "revision": 1,
            "data": {},
        },
    ]


def _conflict(api: Api) -> str:
    """What stands in the way, as the condition Reconciled tells it."""
    conditions = api.status("tiny").get("conditions", [])
    return next((c["message"] for c in conditions if c["reason"] == "ChildConflict"), "")


def _labels(pod: Json) -> Json:
    found: Json = pod["metadata"]["labels"]
    return found


def _said(api: Api, kind: Kind) -> list[Json]:
    """What the operator says of all of a kind that are a run's."""
    given = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
    found = [body for body in api.find(kind) if body["metadata"]["name"].startswith("tiny")]
    return [
        {
            **{name: value for name, value in body.items() if name not in ("status", "metadata", "spec")},
            "metadata": {name: value for name, value in body["metadata"].items() if name not in given},
            "spec": {
                name: value
                for name, value in body.get("spec", {}).items()
                if name in ("selector", "maxUnavailable")
            },
        }
        for body in found
    ]
