"""One API server for all tests of this folder, with the whole chart in it; nothing runs there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.kubernetes.envtest import api_server
from footplate_contracts.names import REQUESTED_BY_ANNOTATION
from tests.component.contracts.kube import AS_OPERATOR, Kubectl
from tests.component.contracts.manifests import (
    price_manifest,
    profile_manifest,
    run_manifest,
    usage_manifest,
)
from tests.support.chart import NAMESPACE, rendered

WITHIN_SECONDS = 60.0  # for each: kinds of parameters are looked for every 30 s


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl as an administrator of a server that has our CRDs, roles, profiles and policies."""
    with api_server(tmp_path_factory.mktemp("api-server")) as server:
        kubectl = Kubectl(server.kubectl, server.kubeconfig)
        kubectl("apply", "--server-side", "-f", "crds/")
        kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "crds/")
        kubectl("create", "namespace", NAMESPACE)
        chart = {"apiVersion": "v1", "kind": "List", "items": rendered()}
        kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(chart))
        _await_policies(kubectl)
        yield kubectl


def _await_policies(kubectl: Kubectl) -> None:
    """They come into force one by one, and until its parameters are found one may refuse every run."""
    too_many = run_manifest({"compute.profile": "h100-infiniband", "compute.processesPerNode": 64})
    uneven = run_manifest({"parallelism.tensor": 4, "compute.nodes": 3})
    _await("the policy knows the GPUs", lambda: "above the 8 GPUs" in str(kubectl.refusal(too_many)))
    _await("the policy knows the processes", lambda: "cannot be divided" in str(kubectl.refusal(uneven)))
    _await("a good run is admitted", lambda: kubectl.refusal(run_manifest()) == [])

    def status_written(*flags: str) -> bool:
        return kubectl.write_status("good", {"phase": "Queued"}, "--dry-run=server", *flags).returncode == 0

    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest()))
    _await("the operator writes status", lambda: status_written(AS_OPERATOR))
    _await("nobody else writes status", lambda: not status_written())
    kubectl("delete", "trainingrun", "good")
    signed = run_manifest(name="signed")
    signed["metadata"]["annotations"] = {REQUESTED_BY_ANNOTATION: "somebody"}
    _await("nobody but the API says who asked", lambda: "requested-by" in str(kubectl.refusal(signed)))

    taken = profile_manifest({"backend": "gloo", "podLabels": {"footplate.dev/role": "spare"}})
    _await("no profile takes our labels", lambda: "finds its pods" in str(kubectl.refusal(taken)))

    def itself_superseded() -> bool:
        entry = price_manifest("circle", supersedes="circle")
        done = kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(entry))
        return "is the entry itself" in done.stderr

    _await("an entry does not supersede itself", itself_superseded)

    def forged() -> bool:
        record = json.dumps(usage_manifest("forged"))
        return kubectl.run("create", "--dry-run=server", "-f", "-", stdin=record).returncode == 0

    _await("nobody but the operator notes usage", lambda: not forged())


def _await(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not within {WITHIN_SECONDS:.0f} s: {what}"
        time.sleep(0.1)
