"""Rules of the ComputeProfile, and the admission policies that read it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from footplate_contracts.v1alpha1.computeprofile import USUALLY_OVERRIDABLE, ComputeProfileSpec
from tests.component.contracts.kube import AS_OPERATOR, Kubectl
from tests.component.contracts.manifests import profile_manifest, run_manifest
from tests.support.contracts import every_rule

GPU = {
    "count": 8,
    "product": "any",
    "memoryGiB": 80,
    "peakTflops": {"bf16": 989.4, "fp32": 67},
    "tdpWatts": 700,
}
OTHER_CLAIM = {"name": "nics", "resourceClaimTemplateName": "four-nics"}


ROWS = {
    "nccl-without-gpu": (
        {"backend": "nccl"},
        "spec.gpu: Required value: backend nccl needs gpu; set it, or use backend gloo",
    ),
    "two-ranks-on-one-gpu": (
        {"gpu": GPU, "processesPerNode": 4},
        "spec.processesPerNode: Invalid value: processesPerNode 4 must equal gpu.count 8:"
        " one rank drives one device",
    ),
    "rdma-is-the-gpu": (
        {"gpu": GPU, "processesPerNode": 8, "network": {"rdma": {"resource": "nvidia.com/gpu", "count": 8}}},
        "spec.network.rdma.resource: Invalid value: network.rdma.resource nvidia.com/gpu is the GPUs'"
        " resource; set that of the RDMA device plugin",
    ),
    "another-product-selected": (
        {
            "gpu": GPU,
            "processesPerNode": 8,
            "scheduling": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}},
        },
        "spec.gpu.product: Invalid value: gpu.product any differs from the product in"
        " scheduling.nodeSelector, NVIDIA-L4; change one of them",
    ),
    "claim-without-a-name": (
        {"gpu": {**GPU, "resourceClaim": "gpus"}, "processesPerNode": 8, "resourceClaims": [OTHER_CLAIM]},
        "spec.gpu.resourceClaim: Invalid value: gpu.resourceClaim gpus is missing from resourceClaims; add"
        " that claim there",
    ),
    "host-network-of-restricted": (
        {"backend": "gloo", "network": {"hostNetwork": True}},
        "spec.network.hostNetwork: Invalid value: network.hostNetwork true needs securityProfile privileged,"
        " not restricted; change one of them",
    ),
    "capabilities-of-baseline": (
        {"backend": "gloo", "capabilities": ["IPC_LOCK"], "securityProfile": "baseline"},
        "spec.capabilities: Invalid value: capabilities need securityProfile privileged, not baseline; change"
        " one of them",
    ),
    "root-of-restricted": (
        {"backend": "gloo", "securityContext": {"runAsUser": 0}},
        "spec.securityContext.runAsUser: Invalid value: securityContext.runAsUser 0 is root, which"
        " securityProfile restricted forbids; use another id, or securityProfile baseline",
    ),
    "pack-and-spread": (
        {
            "backend": "gloo",
            "scheduling": {
                "placement": {"pack": {"topologyKey": "example.com/rack"}, "spread": {"topologyKey": "zone"}}
            },
        },
        "spec.scheduling.placement.spread: Forbidden: spread by zone contradicts pack into one"
        " example.com/rack; remove one of them",
    ),
    "pack-and-topology-key": (
        {
            "backend": "gloo",
            "scheduling": {"placement": {"pack": {"topologyKey": "example.com/rack"}}, "topologyKey": "zone"},
        },
        "spec.scheduling.topologyKey: Forbidden: topologyKey zone spreads workers, as placement.spread"
        " does; remove it when placement is set",
    ),
}


@pytest.mark.parametrize(("spec", "complaint"), [pytest.param(*row, id=name) for name, row in ROWS.items()])
def test_profile_is_refused(kubectl: Kubectl, spec: dict[str, Any], complaint: str) -> None:
    assert kubectl.refusal(profile_manifest(spec)) == [complaint]


def test_every_rule_of_profiles_has_a_row() -> None:
    assert len(list(every_rule(ComputeProfileSpec, "spec"))) == len(ROWS)


def test_a_run_may_come_before_its_profile(kubectl: Kubectl) -> None:
    assert kubectl.refusal(run_manifest({"compute.profile": "not-yet-there"})) == []


def test_more_processes_than_gpus(kubectl: Kubectl) -> None:
    (said,) = kubectl.refusal(
        run_manifest({"compute.profile": "h100-infiniband", "compute.processesPerNode": 9})
    )
    assert said.endswith(
        "denied request: spec.compute.processesPerNode: 9 is above the 8 GPUs that a node of profile"
        " h100-infiniband has; lower it, or use another profile"
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"parallelism.tensor": 2}, "", id="profile-states-the-processes"),
        pytest.param(
            {"parallelism.tensor": 4, "compute.nodes": 3},
            "spec.compute: 3 nodes x 2 processes per node = 6 ranks cannot be divided into slices of"
            " tensor x pipeline x context = 4; change nodes or parallelism",
            id="too-few-ranks",
        ),
        pytest.param(
            {"parallelism": {"tensor": 2, "pipeline": 2, "context": 2}, "compute.nodes": 6},
            "spec.compute: 6 nodes x 2 processes per node = 12 ranks cannot be divided into slices of"
            " tensor x pipeline x context = 8; change nodes or parallelism",
            id="all-three-axes",
        ),
    ],
)
def test_ranks_of_the_profile_are_divided(kubectl: Kubectl, changes: dict[str, object], says: str) -> None:
    complaints = kubectl.refusal(run_manifest(changes))
    if says:
        assert [complaint.partition("denied request: ")[2] for complaint in complaints] == [says]
    else:
        assert complaints == []


@pytest.fixture
def run(kubectl: Kubectl) -> Iterator[str]:
    """A run that exists."""
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(name="with-status")))
    yield "with-status"
    kubectl("delete", "trainingrun", "with-status")


def test_nobody_but_the_operator_writes_status(kubectl: Kubectl, run: str) -> None:
    refused = kubectl.write_status(run, {"phase": "Succeeded"}).stderr
    assert "status is written by system:serviceaccount:footplate-system:footplate-operator alone" in refused
    assert kubectl.write_status(run, {"phase": "Succeeded"}, AS_OPERATOR).returncode == 0
    assert kubectl("get", "trun", run, "-o", "jsonpath={.status.phase}") == "Succeeded"


def test_a_status_beside_the_spec_is_dropped(kubectl: Kubectl) -> None:
    assert "status" not in kubectl.tried(run_manifest() | {"status": {"phase": "Succeeded"}})


def test_a_run_whose_profile_changed_is_suspended_and_not_resumed(kubectl: Kubectl) -> None:
    profile = {"backend": "gloo", "processesPerNode": 4}
    kubectl("apply", "-f", "-", stdin=json.dumps(profile_manifest(profile, name="shrinks")))
    changes = {"compute.profile": "shrinks", "compute.nodes": 1, "parallelism.tensor": 4}
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(changes, name="outlives")))
    kubectl("patch", "cprof", "shrinks", "--type=merge", "--patch", '{"spec": {"processesPerNode": 2}}')
    _await_refusal(kubectl, run_manifest(changes, name="later"))
    kubectl("patch", "trun", "outlives", "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    (said,) = kubectl.change_refusal("outlives", {"spec": {"suspend": False}})
    assert "1 nodes x 2 processes per node = 2 ranks cannot be divided" in said
    kubectl("delete", "trun/outlives", "cprof/shrinks")


def _await_refusal(kubectl: Kubectl, manifest: dict[str, Any]) -> None:
    """The policy reads profiles from a cache of its own."""
    deadline = time.monotonic() + 30.0
    while not kubectl.refusal(manifest):
        assert time.monotonic() < deadline, "the change of the profile is not seen"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def strict(kubectl: Kubectl) -> Iterator[str]:
    """A profile that lets runs state their tolerations and ids only."""
    few = {"backend": "gloo", "overridable": ["tolerations", "securityContext"]}
    kubectl("apply", "-f", "-", stdin=json.dumps(profile_manifest(few, name="strict")))
    _await_refusal(kubectl, run_manifest({"compute.profile": "strict", "priorityClassName": "urgent"}))
    yield "strict"
    kubectl("delete", "cprof/strict")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        pytest.param({"compute.processesPerNode": 2}, "spec.compute.processesPerNode", id="processes"),
        pytest.param({"priorityClassName": "urgent"}, "spec.priorityClassName", id="priority"),
        pytest.param({"trainer.env": [{"name": "A", "value": "1"}]}, "spec.trainer.env", id="env"),
        pytest.param({"trainer.envFrom": [{"secretRef": {"name": "a"}}]}, "spec.trainer.env", id="env-from"),
        pytest.param(
            {"trainer.resources": {"limits": {"cpu": "1"}}}, "spec.trainer.resources", id="resources"
        ),
        pytest.param(
            {"trainer.volumes": [{"name": "a", "emptyDir": {}}]}, "spec.trainer.volumes", id="volumes"
        ),
        pytest.param(
            {"trainer.volumeMounts": [{"name": "a", "mountPath": "/a"}]}, "spec.trainer.volumes", id="mounts"
        ),
        pytest.param(
            {"compute.placement": {"spread": {"topologyKey": "zone"}}},
            "spec.compute.placement",
            id="placement",
        ),
        pytest.param({"trainer.serviceAccountName": "a"}, "spec.trainer.serviceAccountName", id="account"),
        pytest.param({"trainer.podLabels": {"a": "b"}}, "spec.trainer.podLabels", id="labels"),
        pytest.param({"trainer.podAnnotations": {"a": "b"}}, "spec.trainer.podAnnotations", id="annotations"),
        pytest.param({"trainer.nodeSelector": {"a": "b"}}, "spec.trainer.nodeSelector", id="selector"),
        pytest.param({"trainer.runtimeClassName": "kata"}, "spec.trainer.runtimeClassName", id="runtime"),
        pytest.param({"trainer.schedulerName": "volcano"}, "spec.trainer.schedulerName", id="scheduler"),
    ],
)
def test_a_run_states_what_its_profile_lists_only(
    kubectl: Kubectl, strict: str, changes: dict[str, object], where: str
) -> None:
    (said,) = kubectl.refusal(run_manifest({"compute.profile": strict, **changes}))
    assert said.partition("denied request: ")[2] == (
        f"{where}: profile strict lets a run set only tolerations, securityContext; remove it, or use"
        " another profile"
    )


@pytest.mark.parametrize("field", ["securityContext", "tolerations", "nodeSelector", "runtimeClassName"])
def test_a_new_field_is_no_runs_to_state_by_default(kubectl: Kubectl, field: str) -> None:
    value: object = "a" if field == "runtimeClassName" else [] if field == "tolerations" else {}
    (said,) = kubectl.refusal(run_manifest({f"trainer.{field}": value}))
    assert said.partition("denied request: ")[2] == (
        f"spec.trainer.{field}: profile local-cpu lets a run set only {', '.join(USUALLY_OVERRIDABLE)};"
        " remove it, or use another profile"
    )


def test_what_is_listed_is_admitted(kubectl: Kubectl, strict: str) -> None:
    changes = {
        "compute.profile": strict,
        "compute.processesPerNode": 1,
        "trainer.tolerations": [{"operator": "Exists"}],
        "trainer.securityContext": {"runAsUser": 4711, "supplementalGroups": [70000]},
    }
    assert kubectl.refusal(run_manifest(changes)) == []


def test_root_of_a_run_is_refused_where_the_profile_is_restricted(kubectl: Kubectl, strict: str) -> None:
    changes = {"compute.profile": strict, "trainer.securityContext": {"runAsUser": 0}}
    (said,) = kubectl.refusal(run_manifest(changes))
    assert said.partition("denied request: ")[2] == (
        "spec.trainer.securityContext.runAsUser: 0 is root, which securityProfile restricted of profile"
        " strict refuses; use another id, or another profile"
    )
