"""Who may note what was used: the bill is made of it."""

from __future__ import annotations

import json

import pytest

from tests.component.contracts.kube import AS_API, AS_OPERATOR, Kubectl
from tests.component.contracts.manifests import usage_manifest

OPERATOR = (AS_OPERATOR, "--as-group=system:masters")
ADMINISTRATOR = ("--as=ada", "--as-group=system:masters")
REFUSAL = "usage records are written by the operator and deleted once they are stored, not by "


def test_the_operator_writes_it_and_the_api_takes_it_away(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", *OPERATOR, stdin=json.dumps(usage_manifest("noted")))
    kubectl("patch", "usagerecord", "noted", "--type=merge", '--patch={"spec":{"completed":true}}', *OPERATOR)
    kubectl("delete", "usagerecord", "noted", *AS_API)


@pytest.mark.parametrize(
    "who", [pytest.param(ADMINISTRATOR, id="administrator"), pytest.param(AS_API, id="api")]
)
def test_nobody_else_writes_it(kubectl: Kubectl, who: tuple[str, ...]) -> None:
    done = kubectl.run("create", "-f", "-", *who, stdin=json.dumps(usage_manifest("forged")))
    assert f"forged: {REFUSAL}" in done.stderr


def test_nobody_else_changes_or_deletes_it(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", *OPERATOR, stdin=json.dumps(usage_manifest("standing")))
    patch = ("patch", "usagerecord", "standing", "--type=merge", '--patch={"spec":{"completed":true}}')
    for change in (patch, ("delete", "usagerecord", "standing")):
        assert f"standing: {REFUSAL}ada" in kubectl.run(*change, *ADMINISTRATOR).stderr
