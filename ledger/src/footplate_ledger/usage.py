"""What was used: one interval for each pod, and one for each node; pure.

A pod counts from the moment a node was bound to it until its containers have ended, by Kubernetes' own
times. Where nobody saw it end, the last evidence of it counts, and the usage says `estimated`.

The same pod may be told of any number of times, in any order, by programs that were away in between:
`merged` is associative, commutative and idempotent, so that what is known does not depend on that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.computeprofile import Capacity
from footplate_ledger.time import Span
from footplate_ledger.units import Energy, Power, Seconds


@dataclass(frozen=True, slots=True, order=True)
class Goods:
    """What has a price: nodes of one profile, bought in one way, in one place."""

    profile: str
    capacity: Capacity = Capacity.ON_DEMAND
    region: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """The object whose pods they are; a TrainingRun today."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """What a node draws and where, as the profile said it when the pod was made; None is unknown."""

    device: Power | None = None  # rated power of one device (TDP)
    rest: Power | None = None  # of the node beside its devices
    effectiveness: Fraction = Fraction(1)  # PUE
    grams: Fraction | None = None  # CO2 equivalent a kilowatt-hour, as stated
    zone: str = ""
    provider: str = ""  # aws, azure, gcp
    region: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Measured:
    """Sums since the pod began; they only grow. The seconds are those of a device, by each method."""

    energy: Energy = field(default_factory=Energy)
    counter: Seconds = field(default_factory=Seconds)
    power: Seconds = field(default_factory=Seconds)


@dataclass(frozen=True, slots=True, order=True)
class Evidence:
    """When a pod's containers ended, and how well that is known.

    `known` of it: 0 it is not over as far as is known, 1 by the last evidence, 2 by Kubernetes' times.
    Later knowledge of the same quality counts; `until` of a pod that is not over is the last evidence.
    """

    known: int
    until: int  # seconds since 1970

    @property
    def estimated(self) -> bool:
        """Nobody saw it end."""
        return self.known == 1


RUNNING, LAST_SEEN, TOLD = 0, 1, 2


@dataclass(frozen=True, slots=True)
class PodUsage:
    """One pod on one node.

    `devices` are what it holds there; `cpu` counts where it holds none. `node_devices` are those of the whole
    node, by the pod's profile: they count where nobody tells of the node; 0 is not known.
    """

    uid: str
    owner: Owner
    role: Role
    attempt: int
    node: str  # uid of the Node
    goods: Goods
    start: int
    end: Evidence
    devices: int = 0
    cpu: Fraction = Fraction(0)  # cores that it requests
    site: Site = Site()
    measured: Measured = field(default_factory=Measured)
    node_devices: int = 0

    def span(self, now: int) -> Span:
        """What it has used until `now`."""
        return Span(self.start, now if self.end.known == RUNNING else min(self.end.until, now))


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """One node, from when it was made until it was gone."""

    uid: str
    name: str
    goods: Goods
    start: int
    end: Evidence
    devices: int = 0
    cpu: Fraction = Fraction(0)  # cores that pods may request

    def span(self, now: int) -> Span:
        """For how long it was there, until `now`."""
        return Span(self.start, now if self.end.known == RUNNING else min(self.end.until, now))


_ROLES: Final = (Role.COORDINATOR, Role.SPARE, Role.WORKER)  # which may become the ones after it


def merged(known: PodUsage, told: PodUsage) -> PodUsage:
    """What is known of one pod after it was told of twice; ValueError for two pods.

    A start is Kubernetes' own and never changes; of two that differ, by a clock that was set, the
    earlier counts. A spare that became a worker is one, whenever that was told. All else that differs is
    decided by its order, so that every order of tellings agrees.
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
    )


def _rank(usage: PodUsage) -> tuple[object, ...]:
    site = repr(usage.site)  # None has no order
    return usage.end, usage.node, usage.goods, usage.devices, usage.cpu, usage.owner, site


def merged_node(known: NodeUsage, told: NodeUsage) -> NodeUsage:
    """As `merged`, of a node; ValueError for two nodes."""
    if known.uid != told.uid:
        raise ValueError(f"usage of the node {told.uid} cannot be merged into that of {known.uid}")
    last = max(known, told, key=lambda node: (node.end, node.goods, node.devices, node.cpu, node.name))
    return replace(last, start=min(known.start, told.start))


def gathered(tellings: Iterable[PodUsage]) -> dict[str, PodUsage]:
    """Each pod once, by uid."""
    found: dict[str, PodUsage] = {}
    for usage in tellings:
        known = found.get(usage.uid)
        found[usage.uid] = usage if known is None else merged(known, usage)
    return found
