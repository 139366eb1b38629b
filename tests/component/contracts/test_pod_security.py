"""Pods of a run where namespaces say who they may be: Pod Security, and a policy as OpenShift has it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from footplate_contracts.names import WorkerId
from footplate_operator.errors import ClusterError, ObjectInvalid, RequestForbidden
from footplate_operator.profiles import decode_profile
from footplate_operator.runtime.kinds import POD, Json
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.manifests import coordinator
from footplate_operator.trainingrun.manifests.pod import security_context
from footplate_operator.trainingrun.observation import ApiEndpoint
from footplate_operator.trainingrun.policies.pod_refusals import refusal
from footplate_operator.trainingrun.run import Run
from tests.component.contracts.kube import Kubectl
from tests.support.connection import ask, refused
from tests.support.operator_fakes import profile_manifest
from tests.support.operator_runs import frozen, run, spare_pod, worker_pod

RESTRICTED_V2: Final = Path(__file__).with_name("restricted_v2.yaml")
PRIVILEGED: Final[dict[str, Any]] = {
    "securityProfile": "privileged",
    "network": {"hostNetwork": True},
    "capabilities": ["IPC_LOCK"],
}
TEMPLATE: Final[dict[str, Any]] = {
    "podTemplate": {
        "spec": {
            "containers": [{"name": "metrics", "image": "metrics:1"}],
            "initContainers": [{"name": "check", "image": "check:1", "restartPolicy": "Always"}],
        }
    }
}


@pytest.fixture(scope="module")
def namespaces(kubectl: Kubectl) -> Iterator[None]:
    """One of each Pod Security level, `pods-…`, and `openshift`, where a policy imitates restricted-v2."""
    levels = ("restricted", "baseline", "privileged")
    bodies = [_namespace(f"pods-{level}", {"pod-security.kubernetes.io/enforce": level}) for level in levels]
    bodies.append(_namespace("openshift", {"imitates": "openshift"}))
    bodies += yaml.safe_load_all(RESTRICTED_V2.read_text())
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}))
    deadline = time.monotonic() + 60.0
    while _error(kubectl, "openshift") is None:
        assert time.monotonic() < deadline, "the policy does not come into force"
        time.sleep(0.1)
    yield
    kubectl("delete", "-f", str(RESTRICTED_V2))
    kubectl("delete", "namespace", *(f"pods-{level}" for level in levels), "openshift", "--wait=false")


def _namespace(name: str, labels: dict[str, str]) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _pods(namespace: str, **profile: Any) -> list[Json]:
    subject = replace(run(), key=Key(namespace, "tiny"))
    revision = frozen(subject, **profile)
    return [
        worker_pod(subject, revision, WorkerId(0, 0), ""),
        spare_pod(subject, revision, WorkerId(0, 0), ""),
        coordinator.pod(subject, revision, 1, ApiEndpoint("https://api", "who vouches")),
    ]


def _error(kubectl: Kubectl, namespace: str, **profile: Any) -> ClusterError | None:
    """The first refusal of a run's pods there, as the operator's client raises it."""
    for pod in _pods(namespace, **profile):
        path = POD.path(namespace) + "?dryRun=All&fieldValidation=Strict"
        status, answer = ask(kubectl.kubeconfig, "POST", path, pod)
        if refused(status):
            types = {403: RequestForbidden, 422: ObjectInvalid}
            return types[status](answer["message"], status, answer["reason"])
    return None


def _said(kubectl: Kubectl, namespace: str, **profile: Any) -> str:
    error = _error(kubectl, namespace, **profile)
    assert error is not None
    subject: Run = replace(run(), key=Key(namespace, "tiny"))
    known = decode_profile(profile_manifest(**profile))
    return refusal(error, subject, known, security_context(subject, known))


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    ("namespace", "profile"),
    [
        pytest.param("pods-restricted", {}, id="usual"),
        pytest.param("pods-restricted", {"securityContext": {}}, id="the-platforms-ids"),
        pytest.param("pods-restricted", TEMPLATE, id="sidecars"),
        pytest.param("pods-baseline", {"securityProfile": "baseline", **TEMPLATE}, id="baseline"),
        pytest.param(
            "pods-baseline", {"securityProfile": "baseline", "securityContext": {"runAsUser": 0}}, id="root"
        ),
        pytest.param("pods-privileged", PRIVILEGED, id="privileged"),
        pytest.param("openshift", {"securityContext": {}, **TEMPLATE}, id="openshift"),
    ],
)
def test_a_namespace_admits_pods_of_the_standard_that_they_keep_to(
    kubectl: Kubectl, namespace: str, profile: dict[str, Any]
) -> None:
    assert _error(kubectl, namespace, **profile) is None


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    ("namespace", "profile", "field", "remedy"),
    [
        pytest.param(
            "pods-baseline",
            PRIVILEGED,
            "network.hostNetwork",
            "pod-security.kubernetes.io/enforce=privileged",
            id="host",
        ),
        pytest.param(
            "pods-baseline",
            {"securityProfile": "privileged", "capabilities": ["IPC_LOCK"]},
            "capabilities",
            "pod-security.kubernetes.io/enforce=privileged",
            id="capabilities",
        ),
        pytest.param(
            "pods-restricted",
            {"securityProfile": "baseline"},
            "securityProfile",
            "pod-security.kubernetes.io/enforce=baseline",
            id="baseline",
        ),
        pytest.param("openshift", {}, "securityContext.runAsUser 1000", "set securityContext: {}", id="user"),
        pytest.param(
            "openshift",
            {"securityContext": {"runAsUser": 1000680000, "fsGroup": 70}},
            "securityContext.fsGroup 70",
            "set securityContext: {}",
            id="group",
        ),
        pytest.param(
            "default",
            {"podTemplate": {"spec": {"containers": [{"name": "metrics"}]}}},
            "podTemplate",
            "correct the podTemplate",
            id="no-image",
        ),
    ],
)
def test_a_refusal_names_the_field(
    kubectl: Kubectl, namespace: str, profile: dict[str, Any], field: str, remedy: str
) -> None:
    said = _said(kubectl, namespace, **profile)
    assert said.startswith(f"compute.profile local-cpu: {field}: ") and remedy in said
