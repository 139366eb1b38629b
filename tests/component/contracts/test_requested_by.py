"""Who asked the API for a run is written by the API alone; whoever leaves that alone is not in its way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from footplate_contracts.names import REQUESTED_BY_ANNOTATION
from tests.component.contracts.kube import AS_API, AS_OPERATOR, Kubectl
from tests.component.contracts.manifests import run_manifest

ALICE = {REQUESTED_BY_ANNOTATION: "oidc:alice@example.org"}
SAID = "is written by system:serviceaccount:footplate-system:footplate-api alone, not by"


def manifest(name: str, annotations: dict[str, str] | None = None) -> str:
    made = run_manifest(name=name)
    return json.dumps({**made, "metadata": {**made["metadata"], "annotations": annotations or {}}})


@pytest.fixture
def run(kubectl: Kubectl) -> Iterator[str]:
    """A run that the API created for alice."""
    kubectl("create", "-f", "-", *AS_API, stdin=manifest("asked-for", ALICE))
    yield "asked-for"
    kubectl("delete", "trainingrun", "asked-for")


def written(kubectl: Kubectl, run: str) -> str:
    found: dict[str, Any] = json.loads(kubectl("get", "trun", run, "-o", "json"))
    return str(found["metadata"]["annotations"].get(REQUESTED_BY_ANNOTATION))


def test_nobody_but_the_api_creates_a_run_with_it(kubectl: Kubectl) -> None:
    for value in ("oidc:alice@example.org", ""):
        done = kubectl.run(
            "create", "-f", "-", "--dry-run=server", stdin=manifest("mine", {REQUESTED_BY_ANNOTATION: value})
        )
        assert done.returncode != 0 and SAID in done.stderr


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
    kubectl("create", "-f", "-", stdin=manifest("without"))
    done = kubectl.run("annotate", "trun", "without", f"{REQUESTED_BY_ANNOTATION}=mallory")
    kubectl("annotate", "trun", "without", "team=a")
    kubectl("delete", "trun", "without")
    assert done.returncode != 0 and SAID in done.stderr


@pytest.mark.parametrize("how", [(), ("--server-side", "--force-conflicts")])
def test_who_applies_a_manifest_without_it_takes_it_not_away(
    kubectl: Kubectl, run: str, how: tuple[str, ...]
) -> None:
    changed = json.loads(manifest(run, {"team": "a"}))
    changed["spec"]["compute"]["nodes"] = 4
    for _ in range(2):
        kubectl("apply", *how, "-f", "-", stdin=json.dumps(changed))
    assert written(kubectl, run) == "oidc:alice@example.org"
    assert kubectl("get", "trun", run, "-o", "jsonpath={.spec.compute.nodes}") == "4"


def test_who_leaves_it_alone_may_change_the_rest(kubectl: Kubectl, run: str) -> None:
    assert kubectl.write_status(run, {"phase": "Queued"}, AS_OPERATOR).returncode == 0
    kubectl("patch", "trun", run, "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    kubectl("label", "trun", run, "team=a")
    kubectl("replace", "-f", "-", stdin=kubectl("get", "trun", run, "-o", "json"))
    assert written(kubectl, run) == "oidc:alice@example.org"
