"""What a person sees of our resources with kubectl alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from footplate_contracts.names import ConditionType
from footplate_operator.runtime.conditions import NewCondition, condition
from tests.component.contracts.kube import AS_OPERATOR, Kubectl
from tests.component.contracts.manifests import run_manifest


def test_columns(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(name="columns")))
    status = {
        "phase": "Running",
        "restarts": 1,
        "progress": {"step": 12, "totalSteps": 20, "percentage": 60},
        "world": {"nodes": 2},
        "goodput": 0.97,
        "cost": {"dollars": 12.5},
        "conditions": [
            {
                "type": "Progressing",
                "status": "True",
                "reason": "Training",
                "lastTransitionTime": "2026-01-31T12:00:00Z",
            }
        ],
    }
    assert kubectl.write_status("columns", status, AS_OPERATOR).returncode == 0
    header, row = kubectl("get", "trun", "columns").splitlines()
    kubectl("delete", "trun", "columns")
    assert " ".join(header.split()) == "NAME STAGE PHASE REASON STEP PROGRESS NODES RESTARTS GOODPUT COST AGE"
    assert row.split()[:-1] == [
        "columns",
        "pretrain",
        "Running",
        "Training",
        "12",
        "60",
        "2",
        "1",
        "0.97",
        "12.5",
    ]


@pytest.mark.parametrize(
    ("kind", "phase"), [("Complete", "Succeeded"), ("Failed", "Failed"), ("Suspended", "Suspended")]
)
def test_wait_returns_once_the_condition_holds(kubectl: Kubectl, kind: str, phase: str) -> None:
    name = f"waits-for-{kind.lower()}"
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(name=name)))
    wait = ("wait", f"trun/{name}", f"--for=condition={kind}", "--timeout=1s")
    assert kubectl.run(*wait).returncode != 0, "the run has no status yet"
    said = NewCondition(ConditionType(kind), True, "Why", "the reason")
    status = {"phase": phase, "conditions": [condition(said, 1, datetime.now(UTC)).to_json()]}
    assert kubectl.write_status(name, status, AS_OPERATOR).returncode == 0
    reached = kubectl(*wait)
    kubectl("delete", "trun", name)
    assert reached.split() == [f"trainingrun.footplate.dev/{name}", "condition", "met"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        pytest.param("trun.spec.training", "Length, batch and optimisation", id="part"),
        pytest.param("trun.spec.compute.processesPerNode", "default: the profile's", id="field"),
        pytest.param("cprof.spec.gpu.peakTflops", "Dense peak of one device, TFLOP/s", id="profile"),
        pytest.param("nrec.spec", "it overrides counted faults", id="record"),
    ],
)
def test_explain(kubectl: Kubectl, path: str, says: str) -> None:
    assert says in kubectl("explain", path)


def test_one_category_lists_all(kubectl: Kubectl) -> None:
    assert "computeprofile.footplate.dev/local-cpu" in kubectl("get", "footplate", "-o", "name").split()


@pytest.mark.parametrize(
    "field",
    [
        "spec.training.warmupStep",
        "spec.compute.node",
        "spec.trainer.env[0].val",
        "spec.stages",
        "status.phases",
    ],
)
def test_unknown_fields_are_errors(kubectl: Kubectl, field: str) -> None:
    manifest = run_manifest()
    if field.startswith("spec.trainer"):
        manifest["spec"]["trainer"] = {"env": [{"name": "A", "val": "1"}]}
    else:
        *parents, last = field.split(".")
        here = manifest
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = 1
    (said,) = kubectl.refusal(manifest)
    assert f'strict decoding error: unknown field "{field}"' in said


def test_pieces_of_pods_are_kept_whole(kubectl: Kubectl) -> None:
    """Volumes and the like are checked when a pod is made of them, not here."""
    volumes = [{"name": "shared", "nfs": {"server": "nas", "path": "/export"}}]
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    changes = {"trainer": {"volumes": volumes, "env": env, "envFrom": [{"secretRef": {"name": "s"}}]}}
    trainer = kubectl.tried(run_manifest(changes))["spec"]["trainer"]
    assert trainer["volumes"] == volumes
    assert trainer["env"] == env
    assert trainer["envFrom"] == [{"secretRef": {"name": "s"}}]


def test_lists_of_the_status_are_bounded(kubectl: Kubectl) -> None:
    """All at their maximum are accepted; one entry more is not."""
    attempt = {"number": 1, "start": "2026-01-01T00:00:00Z", "message": "m" * 200}
    node = {"name": "n" * 30, "strikes": 3, "message": "m" * 100}
    condition = {
        "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "R",
        "message": "m",
    }
    status: dict[str, Any] = {
        "attempts": [attempt | {"number": number} for number in range(20)],
        "nodes": [node] * 32,
        "conditions": [condition | {"type": f"Type{number}"} for number in range(16)],
    }
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(name="full")))
    accepted = kubectl.write_status("full", status, AS_OPERATOR, "--dry-run=server")
    status["attempts"].append(attempt)
    refused = kubectl.write_status("full", status, AS_OPERATOR, "--dry-run=server")
    kubectl("delete", "trun", "full")
    assert accepted.returncode == 0, accepted.stderr
    assert "status.attempts: Too many: 21: must have at most 20 items" in refused.stderr
