"""Who asked the API for a run is written by the API alone; whoever leaves that alone is not in its way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from footplate_contracts.names import REQUESTED_BY_ANNOTATION
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.component.contracts.kube import AS_API, AS_OPERATOR, Kubectl
from tests.component.contracts.manifests import run_manifest
from tests.support.connection import ask, refused

PATH = TRAINING_RUN.path("default")
ALICE = {REQUESTED_BY_ANNOTATION: "oidc:alice@example.org"}
SAID = "is written by system:serviceaccount:footplate-system:footplate-api alone, not by"


def manifest(name: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    made = run_manifest(name=name)
    return {**made, "metadata": {**made["metadata"], "annotations": annotations or {}}}


@pytest.fixture
def run(kubectl: Kubectl) -> Iterator[str]:
    """A run that the API created for alice."""
    status, answer = ask(kubectl.kubeconfig, "POST", PATH, manifest("asked-for", ALICE), AS_API)
    assert not refused(status), answer["message"]
    yield "asked-for"
    assert not refused(ask(kubectl.kubeconfig, "DELETE", f"{PATH}/asked-for")[0])


def stored(kubectl: Kubectl, run: str) -> dict[str, Any]:
    status, found = ask(kubectl.kubeconfig, "GET", f"{PATH}/{run}")
    assert not refused(status), found["message"]
    return found


def written(kubectl: Kubectl, run: str) -> str:
    return str(stored(kubectl, run)["metadata"]["annotations"].get(REQUESTED_BY_ANNOTATION))


def test_nobody_but_the_api_creates_a_run_with_it(kubectl: Kubectl) -> None:
    for value in ("oidc:alice@example.org", ""):
        [said] = kubectl.refusal(manifest("mine", {REQUESTED_BY_ANNOTATION: value}))
        assert SAID in said


@pytest.mark.parametrize(
    "change", [pytest.param("=mallory", id="changed"), pytest.param("-", id="taken-away")]
)
def test_nobody_but_the_api_changes_it(kubectl: Kubectl, run: str, change: str) -> None:
    annotate = ("annotate", "--overwrite", "trun", run, f"{REQUESTED_BY_ANNOTATION}{change}")
    for who in ((), (AS_OPERATOR, "--as-group=system:masters")):
        done = kubectl.run(*annotate, *who)
        assert done.returncode != 0 and SAID in done.stderr
    assert written(kubectl, run) == "oidc:alice@example.org"
    kubectl(*annotate, *AS_API)


def test_nobody_but_the_api_gives_it_to_a_run_that_has_none(kubectl: Kubectl) -> None:
    assert not refused(ask(kubectl.kubeconfig, "POST", PATH, manifest("without"))[0])
    done = kubectl.run("annotate", "trun", "without", f"{REQUESTED_BY_ANNOTATION}=mallory")
    kubectl("annotate", "trun", "without", "team=a")
    assert not refused(ask(kubectl.kubeconfig, "DELETE", f"{PATH}/without")[0])
    assert done.returncode != 0 and SAID in done.stderr


@pytest.mark.parametrize("how", [(), ("--server-side", "--force-conflicts")])
def test_who_applies_a_manifest_without_it_takes_it_not_away(
    kubectl: Kubectl, run: str, how: tuple[str, ...]
) -> None:
    changed = manifest(run, {"team": "a"})
    changed["spec"]["compute"]["nodes"] = 4
    for _ in range(2):
        kubectl("apply", *how, "-f", "-", stdin=json.dumps(changed))
    assert written(kubectl, run) == "oidc:alice@example.org"
    assert stored(kubectl, run)["spec"]["compute"]["nodes"] == 4


def test_who_leaves_it_alone_may_change_the_rest(kubectl: Kubectl, run: str) -> None:
    assert kubectl.write_status(run, {"phase": "Queued"}, AS_OPERATOR).returncode == 0
    kubectl("patch", "trun", run, "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    kubectl("label", "trun", run, "team=a")
    kubectl("replace", "-f", "-", stdin=json.dumps(stored(kubectl, run)))
    assert written(kubectl, run) == "oidc:alice@example.org"
