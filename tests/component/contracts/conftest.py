"""One API server for all tests of this folder, with the whole chart in it; nothing runs there."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import yaml

from cluster.envtest import api_server
from tests.component.contracts.kube import Kubectl
from tests.component.contracts.manifests import run_manifest
from tests.support.chart import NAMESPACE, rendered

WITHIN_SECONDS = 30.0  # for a policy to come into force


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl as an administrator of a server that has our CRDs, roles, profiles and policies."""
    with api_server(tmp_path_factory.mktemp("api-server")) as server:
        kubectl = Kubectl(server.kubectl, server.kubeconfig)
        kubectl("apply", "--server-side", "-f", "crds/")
        kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "crds/")
        kubectl("create", "namespace", NAMESPACE)
        kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(rendered()))
        _await_policies(kubectl)
        yield kubectl


def _await_policies(kubectl: Kubectl) -> None:
    too_many = run_manifest({"compute.profile": "h100-infiniband", "compute.processesPerNode": 64})
    deadline = time.monotonic() + WITHIN_SECONDS
    while not kubectl.refusal(too_many):
        assert time.monotonic() < deadline, "the admission policy does not come into force"
        time.sleep(0.1)
