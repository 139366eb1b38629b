"""The admission policy on podTemplate of a profile: it takes nothing that holds a run together."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.names import API_TOKEN_MOUNT
from footplate_operator.runtime.pods import no_eviction_annotations
from footplate_operator.trainingrun.manifests.pod import base_mounts
from tests.component.contracts.kube import Kubectl
from tests.component.contracts.manifests import profile_manifest


def said_of(kubectl: Kubectl, **spec: Any) -> str:
    """Why a profile with this spec is refused; empty where it is admitted."""
    found = kubectl.refusal(profile_manifest({"backend": "gloo", **spec}))
    return "; ".join(complaint.rpartition("denied request: ")[2] for complaint in found)


def of_pod(kubectl: Kubectl, **spec: Any) -> str:
    return said_of(kubectl, podTemplate={"spec": spec})


def of_trainer(kubectl: Kubectl, **fields: Any) -> str:
    return of_pod(kubectl, containers=[{"name": "metrics"}, {"name": "trainer", **fields}])


def of_metadata(kubectl: Kubectl, **metadata: Any) -> str:
    return said_of(kubectl, podTemplate={"metadata": metadata})


HELD = (
    "restartPolicy",
    "hostname",
    "subdomain",
    "setHostnameAsFQDN",
    "nodeName",
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "enableServiceLinks",
    "automountServiceAccountToken",
    "serviceAccountName",
    "serviceAccount",
    "shareProcessNamespace",
    "hostPID",
    "ephemeralContainers",
)
OF_PROFILE = {
    "nodeSelector": "scheduling.nodeSelector",
    "priorityClassName": "scheduling.priorityClassName",
    "schedulerName": "scheduling.schedulerName",
    "runtimeClassName": "runtimeClassName",
    "resourceClaims": "resourceClaims",
    "hostNetwork": "network.hostNetwork",
}
OF_TRAINER = (
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "workingDir",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "restartPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
)


@pytest.mark.parametrize("field", HELD)
def test_a_field_that_holds_a_run_together_is_refused(kubectl: Kubectl, field: str) -> None:
    assert of_pod(kubectl, **{field: "a"}) == (
        f"spec.podTemplate.spec.{field} holds a run together, and Footplate sets it; remove it"
    )


@pytest.mark.parametrize("field", OF_PROFILE)
def test_a_field_of_the_profile_is_refused(kubectl: Kubectl, field: str) -> None:
    assert of_pod(kubectl, **{field: {}}) == (
        f"spec.podTemplate.spec.{field} has its own field in a profile; use {OF_PROFILE[field]}"
    )


@pytest.mark.parametrize("field", ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"])
def test_ids_are_refused(kubectl: Kubectl, field: str) -> None:
    assert of_pod(kubectl, securityContext={field: 1}) == (
        f"spec.podTemplate.spec.securityContext.{field} has its own field in a profile; use securityContext"
    )


def test_ipc_of_the_node_needs_a_privileged_profile(kubectl: Kubectl) -> None:
    assert of_pod(kubectl, hostIPC=True) == (
        "spec.podTemplate.spec.hostIPC true needs securityProfile privileged, not restricted; change one of"
        " them"
    )
    assert of_pod(kubectl, hostIPC=False) == ""
    template = {"spec": {"hostIPC": True}}
    assert said_of(kubectl, podTemplate=template, securityProfile="privileged") == ""


@pytest.mark.parametrize("label", ["footplate.dev/role", "app.kubernetes.io/managed-by"])
def test_labels_by_which_pods_are_found_are_refused(kubectl: Kubectl, label: str) -> None:
    wanted = (
        "has labels by which Footplate finds its pods, of footplate.dev/ or app.kubernetes.io/managed-by;"
        " remove them"
    )
    assert said_of(kubectl, podLabels={label: "me"}) == f"spec.podLabels {wanted}"
    assert of_metadata(kubectl, labels={label: "me"}) == f"spec.podTemplate.metadata.labels {wanted}"
    assert of_metadata(kubectl, labels={"team": "a"}) == ""


@pytest.mark.parametrize("note", no_eviction_annotations())
def test_annotations_of_autoscalers_are_refused(kubectl: Kubectl, note: str) -> None:
    assert of_metadata(kubectl, annotations={note: "false"}) == (
        f"spec.podTemplate.metadata.annotations {note} keeps autoscalers from evicting a run's pods; remove"
        " it"
    )


def test_our_volumes_are_refused(kubectl: Kubectl) -> None:
    assert of_pod(kubectl, volumes=[{"name": "mine"}, {"name": "footplate-run", "emptyDir": {}}]) == (
        "spec.podTemplate.spec.volumes footplate-run begins with footplate-, as Footplate's do; rename it"
    )


def test_the_name_of_the_container_is_refused(kubectl: Kubectl) -> None:
    assert of_pod(kubectl, initContainers=[{"name": "trainer", "image": "a"}]) == (
        "spec.podTemplate.spec.initContainers trainer is the name of the container that trains; rename it"
    )


@pytest.mark.parametrize("field", OF_TRAINER)
def test_the_container_is_refused(kubectl: Kubectl, field: str) -> None:
    assert of_trainer(kubectl, **{field: "a"}) == (
        f"spec.podTemplate.spec.containers: trainer has {field}, which Footplate sets; remove it"
    )


def test_resources_have_their_own_field(kubectl: Kubectl) -> None:
    assert of_trainer(kubectl, resources={}) == (
        "spec.podTemplate.spec.containers: trainer has resources, which Footplate sets; remove it, and use"
        " resources of the profile"
    )


def test_our_variables_are_refused(kubectl: Kubectl) -> None:
    assert of_trainer(kubectl, env=[{"name": "SITE"}, {"name": "FOOTPLATE_RUN_CONFIG", "value": "/a"}]) == (
        "spec.podTemplate.spec.containers: trainer has the variable FOOTPLATE_RUN_CONFIG, and by those of"
        " FOOTPLATE_ Footplate's programs find each other; remove it"
    )


@pytest.mark.parametrize("end", ["", "/"])
@pytest.mark.parametrize(
    "path", [*(mount["mountPath"] for mount in base_mounts()), API_TOKEN_MOUNT, "/dev/shm", "/etc/footplate"]
)
def test_our_mounts_are_refused(kubectl: Kubectl, path: str, end: str) -> None:
    assert of_trainer(kubectl, volumeMounts=[{"name": "mine", "mountPath": path + end}]) == (
        "spec.podTemplate.spec.containers: trainer mounts something over a folder of Footplate's,"
        f" {path}{end}; use another mountPath"
    )


def test_whatever_else_is_admitted(kubectl: Kubectl) -> None:
    sidecar = {"name": "metrics", "image": "a", "command": ["a"], "env": [{"name": "FOOTPLATE_A"}]}
    trainer = {
        "name": "trainer",
        "env": [{"name": "SITE", "value": "a"}],
        "volumeMounts": [{"name": "huge", "mountPath": "/dev/hugepages"}, {"mountPath": "/tmp/mine"}],
        "securityContext": {"privileged": False},
    }
    assert (
        of_pod(
            kubectl,
            containers=[sidecar, trainer],
            volumes=[{"name": "huge", "emptyDir": {}}],
            dnsPolicy="None",
            affinity={},
        )
        == ""
    )


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param({"containers": [{"image": "a"}]}, "name: Required value", id="no-name"),
        pytest.param(
            {"containers": [{"name": "trainer"}, {"name": "trainer"}]}, "Duplicate value", id="two-trainers"
        ),
        pytest.param({"volumes": {}}, "must be of type array", id="no-list"),
    ],
)
def test_a_template_that_cannot_be_merged_is_refused(kubectl: Kubectl, spec: Any, says: str) -> None:
    assert says in of_pod(kubectl, **spec)
