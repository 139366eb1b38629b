"""Every CEL rule of the TrainingRun, through a real API server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from footplate_contracts.rules import Rule
from footplate_contracts.v1alpha1.trainingrun import TrainingRun
from tests.component.contracts.kube import AS_OPERATOR, Kubectl
from tests.component.contracts.manifests import ABSENT, merge_patch, run_manifest
from tests.component.contracts.row import Row
from tests.component.contracts.rows import ALWAYS_ALLOWED, CREATION, UPDATES
from tests.support.contracts import every_rule


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in CREATION])
def test_creation_is_refused(kubectl: Kubectl, row: Row) -> None:
    assert row.complaint in kubectl.refusal(run_manifest(row.changes))


def test_the_good_run_is_not_refused(kubectl: Kubectl) -> None:
    assert kubectl.refusal(run_manifest()) == []


@pytest.mark.parametrize("field", ["initFrom", "resumeFrom"])
def test_a_run_begins_with_weights_of_anywhere(kubectl: Kubectl, field: str) -> None:
    for uri in ("/models/one", "file:///models/one", "s3://bucket/one", "gs://bucket/one", "http://host/one"):
        assert kubectl.refusal(run_manifest({field: {"uri": uri}})) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param(
            "x" * 41,
            f"name {'x' * 41} has 41 characters; at most 40 are allowed, as pods are named after it",
            id="too-long",
        ),
        pytest.param("a.b", "name a.b must start with a letter and hold only a-z, 0-9 and -", id="dot"),
        pytest.param("1a", "name 1a must start with a letter and hold only a-z, 0-9 and -", id="digit-first"),
    ],
)
def test_names_become_host_names(kubectl: Kubectl, name: str, says: str) -> None:
    assert kubectl.refusal(run_manifest(name=name)) == [f"metadata: Invalid value: {says}"]


def test_a_name_may_have_forty_characters(kubectl: Kubectl) -> None:
    assert kubectl.refusal(run_manifest(name="x" * 40)) == []


@pytest.fixture(scope="module")
def active(kubectl: Kubectl) -> Iterator[str]:
    """A run that is not suspended, at step 12 of 20."""
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(name="active")))
    progress = {"step": 12, "totalSteps": 20, "tokens": 6144}
    assert kubectl.write_status("active", {"progress": progress}, AS_OPERATOR).returncode == 0
    yield "active"
    kubectl("delete", "trainingrun", "active")


@pytest.fixture(scope="module")
def suspended(kubectl: Kubectl) -> Iterator[str]:
    """A run that waits."""
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest({"suspend": True}, name="suspended")))
    yield "suspended"
    kubectl("delete", "trainingrun", "suspended")


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row, _ in UPDATES])
def test_change_of_an_active_run_is_refused(kubectl: Kubectl, active: str, row: Row) -> None:
    assert row.complaint in kubectl.change_refusal(active, merge_patch(row.changes))


@pytest.mark.parametrize(
    ("row", "allowed"), [pytest.param(row, allowed, id=row.name) for row, allowed in UPDATES]
)
def test_some_changes_wait_for_suspension(kubectl: Kubectl, suspended: str, row: Row, allowed: bool) -> None:
    complaints = kubectl.change_refusal(suspended, merge_patch(row.changes))
    assert complaints == [] if allowed else row.complaint in complaints


@pytest.mark.parametrize("changes", [pytest.param(item, id=name) for name, item in ALWAYS_ALLOWED.items()])
def test_the_rest_may_change_any_time(
    kubectl: Kubectl, active: str, suspended: str, changes: dict[str, object]
) -> None:
    assert kubectl.change_refusal(active, merge_patch(changes)) == []
    assert kubectl.change_refusal(suspended, merge_patch(changes)) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param(
            {"training.steps": 11},
            "spec.training.steps: Invalid value: training.steps 11 is below the progress so far, 12; raise"
            " it",
            id="steps",
        ),
        pytest.param(
            {"training.steps": ABSENT, "training.tokens": 6143},
            "spec.training.tokens: Invalid value: training.tokens 6143 is below the progress so far, 6144;"
            " raise it",
            id="tokens",
        ),
    ],
)
def test_a_run_cannot_end_in_its_past(
    kubectl: Kubectl, active: str, changes: dict[str, object], says: str
) -> None:
    assert kubectl.change_refusal(active, merge_patch(changes)) == [says]


def test_progress_is_told_that_has_passed_a_length_lowered_a_moment_ago(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(name="passed")))
    progress = {"step": 21, "totalSteps": 30, "tokens": 10752}
    assert kubectl.write_status("passed", {"progress": progress}, AS_OPERATOR).returncode == 0
    assert kubectl.change_refusal("passed", {"spec": {"suspend": True}}) == []
    assert kubectl.change_refusal("passed", {"spec": {"training": {"steps": 19}}}) != []
    kubectl("delete", "trainingrun", "passed")


@pytest.fixture(scope="module")
def elastic(kubectl: Kubectl) -> Iterator[str]:
    """An active run that may have one to three nodes."""
    changes = {"compute.minNodes": 1, "compute.maxNodes": 3}
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(changes, name="elastic")))
    yield "elastic"
    kubectl("delete", "trainingrun", "elastic")


@pytest.mark.parametrize(
    ("replicas", "says"),
    [
        pytest.param(1, "scaled", id="fewest"),
        pytest.param(3, "scaled", id="most"),
        pytest.param(4, "maxNodes 3 is below nodes 4; raise it, or lower nodes", id="too-many"),
    ],
)
def test_a_run_is_scaled_within_its_bounds(kubectl: Kubectl, elastic: str, replicas: int, says: str) -> None:
    told = kubectl.run("scale", f"trainingrun/{elastic}", f"--replicas={replicas}", "--dry-run=server")
    assert says in told.stdout + told.stderr


@pytest.mark.parametrize(
    ("compute", "complaints"),
    [
        pytest.param({"minNodes": None, "maxNodes": None}, [], id="removed"),
        pytest.param({"minNodes": 2}, [], id="least-raised"),
        pytest.param({"nodes": 5, "maxNodes": 8}, [], id="most-raised-with-nodes"),
        pytest.param(
            {"maxNodes": 1},
            ["spec.compute.maxNodes: Invalid value: maxNodes 1 is below nodes 2; raise it, or lower nodes"],
            id="most-lowered-alone",
        ),
        pytest.param(
            {"minNodes": 3},
            ["spec.compute.minNodes: Invalid value: minNodes 3 is above nodes 2; lower it, or raise nodes"],
            id="least-raised-alone",
        ),
    ],
)
def test_bounds_change_while_the_run_trains(
    kubectl: Kubectl, elastic: str, compute: dict[str, int | None], complaints: list[str]
) -> None:
    assert kubectl.change_refusal(elastic, {"spec": {"compute": compute}}) == complaints


@pytest.mark.parametrize("state", ["active", "suspended"])
def test_the_number_of_nodes_is_scaled_without_bounds(
    kubectl: Kubectl, active: str, suspended: str, state: str
) -> None:
    """`kubectl scale` is the same change by another door."""
    assert kubectl.run("scale", f"trainingrun/{state}", "--replicas=3", "--dry-run=server").returncode == 0


def test_no_rule_is_without_a_row() -> None:
    complaints = [row.complaint for row in CREATION] + [row.complaint for row, _ in UPDATES]
    untested = [
        f"{path}: {rule.template}"
        for path, rule in every_rule(TrainingRun.model_fields["spec"].annotation, "spec")
        if not any(_names(path, rule, complaint) for complaint in complaints)
    ]
    assert untested == []


def _names(path: str, rule: Rule, complaint: str) -> bool:
    where = f"{path}.{rule.field}" if rule.field else path
    pattern = ".+".join(re.escape(part) for part in re.split(r"\{[^{}]+\}", rule.template))
    place = re.escape(where).replace(r"\[\]", r"\[\d+\]")
    return re.fullmatch(f"{place}: [A-Za-z ]+: {pattern}", complaint) is not None
