"""Converts UsageRecords of the operator into the ledger's usage and into rows; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from footplate_api.kubernetes.client import Manifest
from footplate_contracts.v1alpha1.usagerecord import UsageRecordSpec
from footplate_ledger import usage_json
from footplate_ledger.conversion import nodes_of, pods_of
from footplate_ledger.usage import NodeLifetime, PodAllocation, merge_nodes, merge_pods


@dataclass
class UsageBatch:
    """Usage from several records, each pod and each Node once, by uid."""

    pods: dict[str, PodAllocation] = field(default_factory=dict)
    nodes: dict[str, NodeLifetime] = field(default_factory=dict)

    def merge(self, other: UsageBatch) -> None:
        """Merge `other` into this batch."""
        for uid, pod in other.pods.items():
            self.pods[uid] = merge_pods(self.pods[uid], pod) if uid in self.pods else pod
        for uid, node in other.nodes.items():
            self.nodes[uid] = merge_nodes(self.nodes[uid], node) if uid in self.nodes else node

    def changes_from(self, known: UsageBatch) -> UsageBatch:
        """Return the merged entries to store that differ from `known`."""
        whole = UsageBatch(dict(known.pods), dict(known.nodes))
        whole.merge(self)
        return UsageBatch(
            {uid: whole.pods[uid] for uid in self.pods if whole.pods[uid] != known.pods.get(uid)},
            {uid: whole.nodes[uid] for uid in self.nodes if whole.nodes[uid] != known.nodes.get(uid)},
        )

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.pods) + len(self.nodes)


def parse_record(manifest: Manifest) -> UsageBatch:
    """Parse a record; raises ValueError, with its name, where it cannot be read or stored."""
    name = (manifest.get("metadata") or {}).get("name")
    try:
        spec = UsageRecordSpec.from_any_release(manifest.get("spec"))
        pods, nodes = pods_of(spec), nodes_of(spec)
        used: list[PodAllocation | NodeLifetime] = [*pods, *nodes]
        for allocation in used:
            usage_json.encode(allocation)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"UsageRecord {name!r} cannot be read: {error}") from error
    return UsageBatch({pod.uid: pod for pod in pods}, {node.uid: node for node in nodes})


def pod_row(pod: PodAllocation) -> dict[str, Any]:
    """Return a row of the table `used_pods`."""
    return {
        **_row(pod),
        "owner_namespace": pod.owner.namespace,
        "owner_name": pod.owner.name,
        "owner_uid": pod.owner.uid,
        "node": pod.node,
    }


def node_row(node: NodeLifetime) -> dict[str, Any]:
    """Return a row of the table `used_nodes`."""
    return {
        **_row(node),
        "profile": node.sku.profile,
        "capacity": node.sku.capacity.value,
        "region": node.sku.region,
        "provider": node.provider,
    }


def _row(used: PodAllocation | NodeLifetime) -> dict[str, Any]:
    return {
        "uid": used.uid,
        "start": used.start,
        "end_known": used.end.known,
        "end_until": used.end.until,
        "usage": usage_json.encode(used),
    }


def usage_of(row: Any) -> PodAllocation:
    """Convert a row of `used_pods` into the ledger's usage; inverse of pod_row()."""
    return usage_json.decode_pod(row.usage)


def node_usage_of(row: Any) -> NodeLifetime:
    """Convert a row of `used_nodes` into the ledger's usage; inverse of node_row()."""
    return usage_json.decode_node(row.usage)
