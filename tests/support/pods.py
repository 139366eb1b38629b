"""Small pods of tests' own: a line of shell, with what every pod of a run gets."""

from __future__ import annotations

from typing import Any

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
