"""What was used: one interval for each pod, and one for each node; pure.

A pod counts from the moment a node was bound to it until its containers have ended, by Kubernetes' own
times. Where nobody saw it end, the last evidence of it counts, and the usage says `estimated`.

The same pod may be told of any number of times, in any order, by programs that were away in between:
`merged` is associative, commutative and idempotent, so that what is known does not depend on that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

from footplate_ledger.time import Span


class Capacity(StrEnum):
    """How a node was bought."""

    ON_DEMAND = "onDemand"
    SPOT = "spot"
    RESERVED = "reserved"


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


class Role(StrEnum):
    """What a pod is in its run."""

    WORKER = "worker"
    SPARE = "spare"
    COORDINATOR = "coordinator"


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

    `devices` are what it holds there; `cpu` counts where it holds none.
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


def merged(known: PodUsage, told: PodUsage) -> PodUsage:
    """What is known of one pod after it was told of twice; ValueError for two pods.

    A start is Kubernetes' own and never changes; of two that differ, by a clock that was set, the
    earlier counts. All else that differs is decided by its order, so that every order of tellings agrees.
    """
    if known.uid != told.uid:
        raise ValueError(f"usage of the pod {told.uid} cannot be merged into that of {known.uid}")
    last = max(known, told, key=_rank)
    return replace(last, start=min(known.start, told.start), attempt=max(known.attempt, told.attempt))


def _rank(usage: PodUsage) -> tuple[object, ...]:
    return usage.end, usage.node, usage.goods, usage.devices, usage.cpu, usage.owner, usage.role


def gathered(tellings: Iterable[PodUsage]) -> dict[str, PodUsage]:
    """Each pod once, by uid."""
    found: dict[str, PodUsage] = {}
    for usage in tellings:
        known = found.get(usage.uid)
        found[usage.uid] = usage if known is None else merged(known, usage)
    return found
