"""Reduced view of a Node: readiness, taints and labels.

A Node object also has the names of all images on it, its addresses, its capacity and
more: a hundred times as much.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from footplate_operator.runtime.kinds import Json

# What a cordon is, too: the node controller sets it in a moment where spec.unschedulable is true.
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_METADATA: Final = ("name", "uid", "resourceVersion", "creationTimestamp", "labels")
_READY: Final = "Ready"


@dataclass(frozen=True, slots=True)
class Taint:
    """Taint of a Node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """View of a Node object; its name may be used again, its uid never is."""

    name: str
    uid: str
    version: int
    unheard: str  # why Kubernetes holds its kubelet to be gone or broken; empty while it does not
    taints: frozenset[Taint]
    labels: tuple[str, ...] = ()  # key, value, key, value, …: a tenth of what a dict takes

    def label(self, key: str) -> str:
        """Return the value of a label; empty if the Node has none."""
        keys = self.labels[::2]
        return self.labels[2 * keys.index(key) + 1] if key in keys else ""

    def is_equivalent(self, other: NodeView) -> bool:
        """Return whether decisions read the same in both, labels apart."""
        return (self.uid, self.unheard, self.taints) == (other.uid, other.unheard, other.taints)


def view_node(body: Mapping[str, Any]) -> NodeView:
    """Return the view of a Node object from the API server."""
    metadata = body["metadata"]
    ready = next(iter(_ready(body)), {})
    status = ready.get("status", "True")  # a kubelet that has just begun says so in a moment
    return NodeView(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        version=int(metadata.get("resourceVersion") or 0),
        unheard="" if status == "True" else f"its condition Ready is {status}",
        taints=_taints(body.get("spec", {})),
        labels=tuple(sys.intern(text) for label in metadata.get("labels", {}).items() for text in label),
    )


def _taints(spec: Mapping[str, Any]) -> frozenset[Taint]:
    told = [(taint["key"], taint.get("value", ""), taint["effect"]) for taint in spec.get("taints") or []]
    cordon = [(UNSCHEDULABLE, "", "NoSchedule")] if spec.get("unschedulable") else []
    return frozenset(Taint(*taint) for taint in (*told, *cordon))


def has_new_capacity(before: NodeView | None, after: NodeView | None) -> bool:
    """Return whether pods may find room on a Node that had none before: it is new, ready or untainted."""
    if after is None or after.unheard:
        return False
    return before is None or bool(before.unheard) or bool(before.taints - after.taints)


def trim_node(body: Json) -> Json:
    """Return a Node reduced to the fields that `view_node` and `usage.nodes.observe_node` read."""
    metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
    return {
        **{name: body[name] for name in ("apiVersion", "kind") if name in body},
        "metadata": {name: metadata[name] for name in _METADATA if name in metadata},
        "spec": {name: spec[name] for name in ("unschedulable", "taints", "providerID") if name in spec},
        "status": {
            "conditions": _ready(body),
            **{name: status[name] for name in ("allocatable",) if name in status},
        },
    }


def _ready(body: Mapping[str, Any]) -> list[Json]:
    conditions = body.get("status", {}).get("conditions") or []
    return [condition for condition in conditions if condition.get("type") == _READY]
