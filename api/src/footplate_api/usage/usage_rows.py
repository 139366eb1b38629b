"""Converts UsageRecords of the operator into the ledger's usage and into rows, and back; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from footplate_api.kubernetes_client import Manifest
from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.computeprofile import Capacity
from footplate_contracts.v1alpha1.usagerecord import UsageRecordSpec
from footplate_ledger.conversion import nodes_of, pods_of
from footplate_ledger.units import Energy, Power, Seconds
from footplate_ledger.usage import (
    EndTime,
    MeasuredEnergy,
    NodeLifetime,
    Owner,
    PodAllocation,
    PowerProfile,
    Sku,
    merge_nodes,
    merge_pods,
)

_MILLI: Final = 1000


@dataclass(frozen=True)
class NamedPodUsage:
    """Usage of a pod, with its name."""

    usage: PodAllocation
    name: str = ""

    def merged(self, told: NamedPodUsage) -> NamedPodUsage:
        """Return the union of both reports, in whatever order they came."""
        return NamedPodUsage(merge_pods(self.usage, told.usage), max(self.name, told.name))


@dataclass(frozen=True)
class ProviderNodeUsage:
    """Usage of a Node, with its cloud provider."""

    usage: NodeLifetime
    provider: str = ""

    def merged(self, told: ProviderNodeUsage) -> ProviderNodeUsage:
        """Return the union of both reports, in whatever order they came."""
        return ProviderNodeUsage(merge_nodes(self.usage, told.usage), max(self.provider, told.provider))


@dataclass
class UsageBatch:
    """Usage from several records, each pod and each Node once, by uid."""

    pods: dict[str, NamedPodUsage] = field(default_factory=dict)
    nodes: dict[str, ProviderNodeUsage] = field(default_factory=dict)

    def merge(self, other: UsageBatch) -> None:
        """Merge `other` into this batch."""
        for uid, pod in other.pods.items():
            self.pods[uid] = self.pods[uid].merged(pod) if uid in self.pods else pod
        for uid, node in other.nodes.items():
            self.nodes[uid] = self.nodes[uid].merged(node) if uid in self.nodes else node

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
        pods = {pod.uid: NamedPodUsage(pod, spec.pods[pod.uid].name) for pod in pods_of(spec)}
        nodes = {node.uid: ProviderNodeUsage(node, spec.nodes[node.uid].provider) for node in nodes_of(spec)}
        for text in _texts(
            [pod_row(pod) for pod in pods.values()] + [node_row(node) for node in nodes.values()]
        ):
            text.encode()
            if "\0" in text:
                raise ValueError("a text has a character that no database takes")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"UsageRecord {name!r} cannot be read: {error}") from error
    return UsageBatch(pods, nodes)


def _texts(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    return (value for row in rows for value in row.values() if isinstance(value, str))


def pod_row(told: NamedPodUsage) -> dict[str, Any]:
    """Return a row of the table `used_pods`."""
    pod, site = told.usage, told.usage.site
    return {
        "uid": pod.uid,
        "name": told.name,
        "owner_kind": pod.owner.kind,
        "owner_namespace": pod.owner.namespace,
        "owner_name": pod.owner.name,
        "owner_uid": pod.owner.uid,
        "role": pod.role.value,
        "attempt": pod.attempt,
        "node": pod.node,
        "node_devices": pod.node_devices,
        "provider": site.provider,
        **_held(pod),
        "device_watts": None if site.device is None else _decimal(site.device.exact),
        "node_watts": None if site.rest is None else _decimal(site.rest.exact),
        "effectiveness": _decimal(site.effectiveness),
        "grams": None if site.grams is None else _decimal(site.grams),
        "carbon_zone": site.zone,
        "millijoules": int(pod.measured.energy.exact),
        "counter_seconds": int(pod.measured.counter.exact),
        "power_seconds": int(pod.measured.power.exact),
    }


def node_row(told: ProviderNodeUsage) -> dict[str, Any]:
    """Return a row of the table `used_nodes`."""
    return {
        "uid": told.usage.uid,
        "name": told.usage.name,
        "provider": told.provider,
        **_held(told.usage),
    }


def _held(used: PodAllocation | NodeLifetime) -> dict[str, Any]:
    return {
        "profile": used.goods.profile,
        "capacity": used.goods.capacity.value,
        "region": used.goods.region,
        "devices": used.devices,
        "millicores": int(used.cpu * _MILLI),
        "start": used.start,
        "end_known": used.end.known,
        "end_until": used.end.until,
    }


def _decimal(number: Fraction) -> str:
    """Format a number as it was in the object, a decimal of at most 17 digits."""
    return str(float(number))


def pod_of(row: Any) -> NamedPodUsage:
    """Convert a row of `used_pods`; inverse of pod_row()."""
    return NamedPodUsage(usage_of(row), row.name)


def usage_of(row: Any) -> PodAllocation:
    """Convert a row of `used_pods` into the ledger's usage."""
    return PodAllocation(
        row.uid,
        Owner(row.owner_kind, row.owner_namespace, row.owner_name, row.owner_uid),
        Role(row.role),
        row.attempt,
        row.node,
        _goods(row.profile, row.capacity, row.region),
        row.start,
        EndTime(row.end_known, row.end_until),
        row.devices,
        _cores(row.millicores),
        _site(
            row.device_watts,
            row.node_watts,
            row.effectiveness,
            row.grams,
            row.carbon_zone,
            row.provider,
            row.region,
        ),
        _measured(row.millijoules, row.counter_seconds, row.power_seconds),
        row.node_devices,
    )


def node_of(row: Any) -> ProviderNodeUsage:
    """Convert a row of `used_nodes`; inverse of node_row()."""
    return ProviderNodeUsage(node_usage_of(row), row.provider)


def node_usage_of(row: Any) -> NodeLifetime:
    """Convert a row of `used_nodes` into the ledger's usage."""
    return NodeLifetime(
        row.uid,
        row.name,
        _goods(row.profile, row.capacity, row.region),
        row.start,
        EndTime(row.end_known, row.end_until),
        row.devices,
        _cores(row.millicores),
    )


_NOTHING: Final = MeasuredEnergy()


def _measured(millijoules: int, counter: int, power: int) -> MeasuredEnergy:
    if not (millijoules or counter or power):
        return _NOTHING
    return MeasuredEnergy(Energy(Fraction(millijoules)), Seconds(Fraction(counter)), Seconds(Fraction(power)))


# The same few of each come hundreds of thousands of times.
@lru_cache(maxsize=4096)
def _goods(profile: str, capacity: str, region: str) -> Sku:
    return Sku(profile, Capacity(capacity), region)


@lru_cache(maxsize=4096)
def _cores(millicores: int) -> Fraction:
    return Fraction(millicores, _MILLI)


@lru_cache(maxsize=4096)
def _site(
    device: str | None,
    rest: str | None,
    effectiveness: str,
    grams: str | None,
    zone: str,
    provider: str,
    region: str,
) -> PowerProfile:
    return PowerProfile(
        device=None if device is None else Power(Fraction(device)),
        rest=None if rest is None else Power(Fraction(rest)),
        effectiveness=Fraction(effectiveness),
        grams=None if grams is None else Fraction(grams),
        zone=zone,
        provider=provider,
        region=region,
    )
