"""GPUs that are not there, for what only needs to be scheduled by them.

An extended resource is a number in a node's status; kubelet keeps one that no device plugin owns.
"""

from __future__ import annotations

from typing import Any

from cluster.kubernetes.api_client import JSON_PATCH, ApiClient

RESOURCE = "nvidia.com/gpu"
_PATH = RESOURCE.replace("/", "~1")  # JSON pointer


def patch(status: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The JSON patch that gives a node ``count`` GPUs; empty where it has them."""
    current = status.get("capacity", {}).get(RESOURCE)
    wanted = str(count)
    if current == wanted or (current is None and count == 0):
        return []
    fields = ("capacity", "allocatable")
    return [{"op": "add", "path": f"/status/{field}/{_PATH}", "value": wanted} for field in fields]


def apply(api: ApiClient, count: int | None) -> None:
    """Gives every node ``count`` fake GPUs; None leaves them as they are."""
    if count is None:
        return
    for node in api.get("/api/v1/nodes")["items"]:
        path = f"/api/v1/nodes/{node['metadata']['name']}/status"
        operations = patch(node["status"], count)
        if operations:
            api.call("PATCH", path, operations, JSON_PATCH)
