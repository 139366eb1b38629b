"""Conversion of observed Pods to usage; pure.

Workers and spares have their profile's price category. A coordinator has none: it is recorded apart, holds no
device, and on a node without devices has the share of its CPU request. So it is free wherever a node's price
is per device, and shares and idle time still add up to the whole node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_ledger.records import site_of
from footplate_ledger.usage import LAST_SEEN, RUNNING, TOLD, Evidence, Owner, PodUsage, Site, merged
from footplate_operator.usage.nodes import NodeSight, devices_of, goods_of
from footplate_operator.usage.sighting import CPU, Sighting


@dataclass(frozen=True)
class Terms:
    """The profile from which an owner's pods are made; without `profile` its content is unknown."""

    name: str = ""  # of the ComputeProfile
    profile: ComputeProfileSpec | None = None


def used(
    pod: Sighting, owner: Owner, terms: Terms, attempt: int, node: NodeSight | None, now: int
) -> PodUsage:
    """Return the usage of a bound pod; without `node` only the node's name is known."""
    profile, apart = terms.profile, pod.role == Role.COORDINATOR
    gpu = None if profile is None else profile.gpu
    provider, region = ("", "") if node is None else (node.provider, node.region)
    return PodUsage(
        uid=pod.uid,
        owner=owner,
        role=Role(pod.role),
        attempt=attempt,
        node=pod.node if node is None else node.uid,
        goods=goods_of(node, "" if apart else terms.name, None if apart else profile),
        start=pod.bound,
        end=end_of(pod, now),
        devices=0 if apart or gpu is None else devices_of(gpu, pod.requests),
        cpu=pod.requests.get(CPU, Fraction(0)),
        site=Site(provider=provider, region=region)
        if apart or profile is None
        else site_of(profile, provider, region),
        node_devices=0 if apart or gpu is None else gpu.count,
    )


def end_of(pod: Sighting, now: int) -> Evidence:
    """Return the evidence of the pod's end, seen at `now`."""
    if not pod.over:
        return Evidence(RUNNING, max(now, pod.bound))
    if pod.ended is None:
        return Evidence(LAST_SEEN, max(now, pod.bound))
    return Evidence(TOLD, max(pod.ended, pod.bound))


def seen_again(known: PodUsage, pod: Sighting, now: int) -> PodUsage:
    """Return the usage updated from a new observation: its end, and a spare's promotion to worker."""
    return merged(known, replace(known, role=Role(pod.role), end=end_of(pod, now)))


def moved(known: PodUsage, node: NodeSight, profile: ComputeProfileSpec | None) -> PodUsage:
    """Return the pod on another Node, as if it had been there all the time; `profile` is its own."""
    return replace(
        known,
        node=node.uid,
        goods=goods_of(node, known.goods.profile, profile),
        site=replace(known.site, provider=node.provider, region=node.region),
    )


def vanished(known: PodUsage, evidence: int) -> PodUsage:
    """Return the usage of a pod that is gone without an observed end: it ends at `evidence`."""
    return merged(known, replace(known, end=Evidence(LAST_SEEN, max(evidence, known.start))))
