"""The pods of a run as a real API server takes them: from the operator, where Pod Security is restricted."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.component.footplate_operator.api import Api
from tests.support.golden import ROOT


@pytest.mark.parametrize("name", ["coordinator", "worker"])
def test_the_operator_may_create_it_with_the_rights_of_the_chart(
    api: Api, operators_api: Api, name: str
) -> None:
    """The coordinator's volume with a token for the API needs no right of its own."""
    api("label", "namespace", api.namespace, "pod-security.kubernetes.io/enforce=restricted")
    pod: dict[str, Any] = yaml.safe_load((ROOT / "manifests" / f"{name}.yaml").read_text())
    pod["metadata"]["namespace"] = api.namespace
    pod["spec"] |= {"serviceAccountName": "default"}  # as the admission of a cluster with nodes adds it
    made = operators_api("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod))
    assert json.loads(made)["spec"]["automountServiceAccountToken"] is False
