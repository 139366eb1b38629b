"""Usage: one interval for each pod, and one for each node; pure.

A pod counts from the moment a node was bound to it until its containers have ended, by Kubernetes' own
times. Where its end was not observed, the last evidence of it counts, and the usage is `estimated`.

The same pod may be reported any number of times, in any order, by programs that were away in between:
`merge_pods` is associative, commutative and idempotent, so that the result does not depend on that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.computeprofile import Capacity
from footplate_ledger.intervals import Interval
from footplate_ledger.units import Energy, Power, Seconds


@dataclass(frozen=True, slots=True, order=True)
class Sku:
    """Priced kind of node: nodes of one profile, bought in one way, in one region."""

    profile: str
    capacity: Capacity = Capacity.ON_DEMAND
    region: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """The object that owns the pods; a TrainingRun today."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, order=True)
class PowerProfile:
    """Power and location of a node, by its profile when the pod was created; None is unknown."""

    device_watts: Power | None = None  # rated power of one device (TDP)
    node_watts: Power | None = None  # of the node beside its devices
    power_usage_effectiveness: Fraction = Fraction(1)
    grams_per_kilowatt_hour: Fraction | None = None  # CO2 equivalent, as stated
    carbon_zone: str = ""
    provider: str = ""  # aws, azure, gcp
    region: str = ""


@dataclass(frozen=True, slots=True, order=True)
class MeasuredEnergy:
    """Energy sums since the pod began; they only grow. The seconds are device-seconds, by each method."""

    millijoules: Energy = field(default_factory=Energy)
    counter_seconds: Seconds = field(default_factory=Seconds)
    power_seconds: Seconds = field(default_factory=Seconds)


@dataclass(frozen=True, slots=True, order=True)
class EndTime:
    """End of a pod's containers, and its certainty.

    `known` is 0 for a pod that has not ended as far as is known, 1 for an end by the last evidence, 2 for
    Kubernetes' times. Of two ends of the same certainty the later counts; `until` of a pod that has not ended
    is the last evidence.
    """

    known: int
    until: int  # seconds since 1970

    @property
    def estimated(self) -> bool:
        """True if the end was not observed."""
        return self.known == 1


RUNNING, LAST_SEEN, TOLD = 0, 1, 2


@dataclass(frozen=True, slots=True)
class PodAllocation:
    """Usage of one node by one pod.

    `devices` are those that it holds there; `cpu` counts where it holds none. `node_devices` are those of the
    whole node, by the pod's profile: they count where the node has no record; 0 is not known.
    """

    uid: str
    owner: Owner
    role: Role
    attempt: int
    node: str  # uid of the Node
    sku: Sku
    start: int
    end: EndTime
    devices: int = 0
    cpu: Fraction = Fraction(0)  # cores that it requests
    site: PowerProfile = PowerProfile()
    measured: MeasuredEnergy = field(default_factory=MeasuredEnergy)
    node_devices: int = 0
    name: str = ""

    def span(self, now: int) -> Interval:
        """Return the interval of its usage until `now`."""
        return Interval(self.start, now if self.end.known == RUNNING else min(self.end.until, now))


@dataclass(frozen=True, slots=True)
class NodeLifetime:
    """Lifetime of one node, from its creation until it was gone."""

    uid: str
    name: str
    sku: Sku
    start: int
    end: EndTime
    devices: int = 0
    cpu: Fraction = Fraction(0)  # cores that pods may request
    provider: str = ""  # aws, azure, gcp

    def span(self, now: int) -> Interval:
        """Return the interval of its lifetime until `now`."""
        return Interval(self.start, now if self.end.known == RUNNING else min(self.end.until, now))


_ROLES: Final = (Role.COORDINATOR, Role.SPARE, Role.WORKER)  # which may become the ones after it


def merge_pods(known: PodAllocation, told: PodAllocation) -> PodAllocation:
    """Merge two reports of one pod; ValueError for two pods.

    A start is Kubernetes' own and never changes; of two that differ, by a clock that was set, the
    earlier counts. A spare that became a worker is a worker, in whatever order the reports came. All else
    comes from the report that is greater in a fixed order, so that every order of reports agrees.
    """
    if known.uid != told.uid:
        raise ValueError(f"usage of the pod {told.uid} cannot be merged into that of {known.uid}")
    last = max(known, told, key=_rank)
    return replace(
        last,
        role=max(known.role, told.role, key=_ROLES.index),
        start=min(known.start, told.start),
        attempt=max(known.attempt, told.attempt),
        node_devices=max(known.node_devices, told.node_devices),
        measured=max(known.measured, told.measured),
        name=max(known.name, told.name),
    )


def _rank(usage: PodAllocation) -> tuple[object, ...]:
    site = repr(usage.site)  # None has no order
    return usage.end, usage.node, usage.sku, usage.devices, usage.cpu, usage.owner, site


def merge_nodes(known: NodeLifetime, told: NodeLifetime) -> NodeLifetime:
    """Merge two reports of one node, as `merge_pods` does; ValueError for two nodes."""
    if known.uid != told.uid:
        raise ValueError(f"usage of the node {told.uid} cannot be merged into that of {known.uid}")
    last = max(known, told, key=lambda node: (node.end, node.sku, node.devices, node.cpu, node.name))
    return replace(last, start=min(known.start, told.start), provider=max(known.provider, told.provider))
