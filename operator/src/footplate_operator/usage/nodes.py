"""A Node's price category, from its labels and the ComputeProfile that fits it; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from footplate_contracts.v1alpha1.computeprofile import Capacity, ComputeProfileSpec, Gpu
from footplate_ledger.conversion import clamp_to_record, parse_time
from footplate_ledger.usage import RUNNING, EndTime, NodeLifetime, Sku
from footplate_operator.usage.pod_observation import CPU, quantity_of

REGION: Final = "topology.kubernetes.io/region"
# Who sets them, and which values say what; in lower case.
_CAPACITIES: Final[Mapping[str, Mapping[str, Capacity]]] = {
    "karpenter.sh/capacity-type": {
        "spot": Capacity.SPOT,
        "on-demand": Capacity.ON_DEMAND,
        "reserved": Capacity.RESERVED,
    },
    "eks.amazonaws.com/capacityType": {
        "spot": Capacity.SPOT,
        "on_demand": Capacity.ON_DEMAND,
        "capacity_block": Capacity.RESERVED,
    },
    "cloud.google.com/gke-spot": {"true": Capacity.SPOT},
    "cloud.google.com/gke-preemptible": {"true": Capacity.SPOT},
    "cloud.google.com/gke-provisioning": {
        "spot": Capacity.SPOT,
        "preemptible": Capacity.SPOT,
        "standard": Capacity.ON_DEMAND,
    },
    "kubernetes.azure.com/scalesetpriority": {"spot": Capacity.SPOT, "regular": Capacity.ON_DEMAND},
}
_PROVIDERS: Final = {"gce": "gcp"}  # by the scheme of providerID, where it is called otherwise
# Kubernetes sets these for a while: they say nothing of what a node is for.
_PASSING: Final = "node.kubernetes.io/"
_REPELLING: Final = ("NoSchedule", "NoExecute")


@dataclass(frozen=True)
class NodeObservation:
    """A version of a Node; `created` in seconds since 1970."""

    uid: str
    name: str
    created: int
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    allocatable: Mapping[str, Fraction]  # CPU and extended resources
    provider: str = ""

    @property
    def region(self) -> str:
        """The region; empty where no label has it."""
        return self.labels.get(REGION, "")

    @property
    def capacity(self) -> Capacity | None:
        """The capacity type; None where no label has it."""
        said = (
            (self.labels[label].lower(), known)
            for label, known in _CAPACITIES.items()
            if label in self.labels
        )
        return next((known[value] for value, known in said if value in known), None)


def observe_node(body: Mapping[str, Any]) -> NodeObservation:
    """Return the observed fields of a Node."""
    metadata, spec = body["metadata"], body.get("spec", {})
    scheme, stated, _ = str(spec.get("providerID") or "").partition("://")
    there = body.get("status", {}).get("allocatable") or {}
    return NodeObservation(
        uid=metadata["uid"],
        name=metadata["name"],
        created=parse_time(metadata["creationTimestamp"]),
        labels=metadata.get("labels") or {},
        taints=tuple(spec.get("taints") or ()),
        allocatable={
            name: quantity_of(quantity) for name, quantity in there.items() if name == CPU or "/" in name
        },
        provider=_PROVIDERS.get(scheme, scheme) if stated else "",
    )


def find_profile(
    node: NodeObservation, profiles: Mapping[str, ComputeProfileSpec], priced: Collection[str] | None
) -> str | None:
    """Return the profile that such a node is for; empty where none fits, None while unknown.

    Ties are broken in this order: a profile with a price, then the most demanding one, then the first by
    name.

    Args:
        priced: profiles that have a price in the book; None while the book is not known.
    """
    found = {name: profile for name, profile in profiles.items() if is_profile_fit(node, profile)}
    if len(found) < 2:
        return next(iter(found), "")
    if priced is None:
        return None
    return min(
        found,
        key=lambda name: (name not in priced and found[name].price is None, -_asked(found[name]), name),
    )


def is_profile_fit(node: NodeObservation, profile: ComputeProfileSpec) -> bool:
    """Return whether pods of the profile can be bound to such a node, and find their devices there."""
    scheduling, gpu = profile.scheduling, profile.gpu
    announced = {taint.key for taint in scheduling.disruption_taints}
    lasting = [
        taint
        for taint in node.taints
        if taint.get("effect") in _REPELLING
        and not taint.get("key", "").startswith(_PASSING)
        and taint.get("key") not in announced
    ]
    return (
        scheduling.node_selector.items() <= node.labels.items()
        and (gpu is None or devices_of(gpu, node.allocatable) > 0)
        and all(any(_tolerates(known, taint) for known in scheduling.tolerations) for taint in lasting)
    )


def devices_of(gpu: Gpu, resources: Mapping[str, Fraction]) -> int:
    """Return the devices among a node's or pod's `resources`; those of a claim are only in the profile."""
    return gpu.count if gpu.resource_claim is not None else int(resources.get(gpu.resource, 0))


def build_sku(node: NodeObservation | None, name: str, profile: ComputeProfileSpec | None) -> Sku:
    """Return the price category for profile `name`; without `node`, as the profile has it."""
    stated = Capacity.ON_DEMAND if profile is None or profile.price is None else profile.price.capacity
    if node is None:
        return Sku(name, stated)
    return Sku(name, node.capacity or stated, node.region)


def build_node_usage(
    node: NodeObservation, name: str, profile: ComputeProfileSpec | None, now: int
) -> NodeLifetime:
    """Return the usage of an existing Node for the profile `name`."""
    gpu = None if profile is None else profile.gpu
    usage = NodeLifetime(
        node.uid,
        node.name,
        build_sku(node, name, profile),
        node.created,
        EndTime(RUNNING, now),
        devices=0 if gpu is None else devices_of(gpu, node.allocatable),
        cpu=node.allocatable.get(CPU, Fraction(0)),
        provider=node.provider,
    )
    return clamp_to_record(usage)


def _asked(profile: ComputeProfileSpec) -> int:
    return len(profile.scheduling.node_selector) + (profile.gpu is not None)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    """Return whether `toleration` matches `taint`, as in Kubernetes."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key", "") in ("", taint.get("key"))
    return toleration.get("key") == taint.get("key") and toleration.get("value", "") == taint.get("value", "")
