"""After a fault, the cluster is whole again before the next test measures anything; small pods ask.

A node is Ready seconds before it is of use: its kubelet, its kube-proxy and the name server look
for the API server again at intervals that grow to half a minute while it is away, and a connection
that a pulled cable left half open is noticed after as long. An operator that took the place of one
on a lost node is ready at once, but waits for the Lease of that one to end before it does anything. A
test with a bar in seconds must not pay for the fault of the one before it.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import yaml

from demo.install import NAMESPACE, wait_for_admission
from demo.kube import Kube
from tests.support.runs import changed, tiny

TIMEOUT = "--timeout=180s"  # generous: what is waited for here is not what a test measures
_CONNECT = f"import socket; socket.create_connection(('footplate-api.{NAMESPACE}', 8443), timeout=2)"
_REACHES_THE_API = f'until python -c "{_CONNECT}" 2> /dev/null; do sleep 0.2; done'


def settle(kube: Kube) -> None:
    """Waits until a new pod on each node finds the API by its name, and the operator answers a run."""
    for part in ("operator", "api"):
        kube.kubectl("rollout", "status", f"deployment/footplate-{part}", "-n", NAMESPACE, TIMEOUT)
    wait_for_admission(kube)
    nodes = [str(node["metadata"]["name"]) for node in (kube.get("nodes") or {})["items"]]
    kube.kubectl("wait", "--for=condition=Ready", "nodes", "--all", TIMEOUT)
    trial = f"settle-{uuid.uuid4().hex[:6]}"
    pods = [pod(f"{trial}-{node}", node, _REACHES_THE_API) for node in nodes]
    names = [f"pod/{item['metadata']['name']}" for item in pods]
    listed = {"apiVersion": "v1", "kind": "List", "items": pods}
    kube.kubectl("apply", "--filename", "-", "-n", "default", stdin=json.dumps(listed))
    try:
        done = "--for=jsonpath={.status.phase}=Succeeded"
        kube.kubectl("wait", done, "-n", "default", TIMEOUT, *names)
    finally:
        kube.kubectl("delete", "-n", "default", "--wait=false", *names)
    _wait_for_the_leaving(kube)
    _wait_for_the_operator(kube)


def _wait_for_the_leaving(kube: Kube) -> None:
    """Waits for pods of ours that were replaced: one of them may hold the Lease until it has ended."""
    pods = (kube.get("pods", "-n", NAMESPACE) or {}).get("items", [])
    leaving = [f"pod/{item['metadata']['name']}" for item in pods if "deletionTimestamp" in item["metadata"]]
    if leaving:
        kube.kubectl("wait", "--for=delete", "-n", NAMESPACE, TIMEOUT, *leaving)


def _wait_for_the_operator(kube: Kube) -> None:
    """Waits until a run that asks for a profile that nobody has is told so."""
    trial = f"settle-{uuid.uuid4().hex[:6]}"
    manifest = changed(tiny(trial, "default"), "compute.profile", trial)
    kube.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump(manifest))
    try:
        kube.kubectl("wait", "--for=condition=Reconciled=False", "-n", "default", TIMEOUT, f"trun/{trial}")
    finally:
        kube.kubectl("delete", "trun", trial, "-n", "default", "--wait=false")


# -- small pods of tests' own ----------------------------------------------------------------------


IMAGE = "localhost/footplate/coordinator:dev"
# What every pod of a run gets, so that volumes and programs are tried as runs use them.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod(name: str, node: str, command: str, **spec: Any) -> dict[str, Any]:
    """A pod that runs a shell command on `node` as user 1000 with a read-only root; `spec` adds to it."""
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", command],
        "securityContext": RESTRICTED,
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            **spec,
        },
    }
