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
from footplate_ledger.conversion import build_power_profile
from footplate_ledger.usage import (
    LAST_SEEN,
    RUNNING,
    TOLD,
    EndTime,
    Owner,
    PodAllocation,
    PowerProfile,
    merge_pods,
)
from footplate_operator.usage.nodes import NodeObservation, build_sku, devices_of
from footplate_operator.usage.pod_observation import CPU, PodObservation


@dataclass(frozen=True)
class PodProfile:
    """The profile from which an owner's pods are made; without `profile` its content is unknown."""

    name: str = ""  # of the ComputeProfile
    profile: ComputeProfileSpec | None = None


def build_pod_usage(
    pod: PodObservation, owner: Owner, terms: PodProfile, attempt: int, node: NodeObservation | None, now: int
) -> PodAllocation:
    """Return the usage of a bound pod; without `node` only the node's name is known."""
    profile, apart = terms.profile, pod.role == Role.COORDINATOR
    gpu = None if profile is None else profile.gpu
    provider, region = ("", "") if node is None else (node.provider, node.region)
    return PodAllocation(
        uid=pod.uid,
        owner=owner,
        role=Role(pod.role),
        attempt=attempt,
        node=pod.node if node is None else node.uid,
        sku=build_sku(node, "" if apart else terms.name, None if apart else profile),
        start=pod.bound,
        end=find_end_evidence(pod, now),
        devices=0 if apart or gpu is None else devices_of(gpu, pod.requests),
        cpu=pod.requests.get(CPU, Fraction(0)),
        site=PowerProfile(provider=provider, region=region)
        if apart or profile is None
        else build_power_profile(profile, provider, region),
        node_devices=0 if apart or gpu is None else gpu.count,
        name=pod.name,
    )


def find_end_evidence(pod: PodObservation, now: int) -> EndTime:
    """Return the evidence of the pod's end, seen at `now`."""
    if not pod.over:
        return EndTime(RUNNING, max(now, pod.bound))
    if pod.ended is None:
        return EndTime(LAST_SEEN, max(now, pod.bound))
    return EndTime(TOLD, max(pod.ended, pod.bound))


def update_usage(known: PodAllocation, pod: PodObservation, now: int) -> PodAllocation:
    """Return the usage updated from a new observation: its end, and a spare's promotion to worker."""
    return merge_pods(known, replace(known, role=Role(pod.role), end=find_end_evidence(pod, now)))


def move_to_node(
    known: PodAllocation, node: NodeObservation, profile: ComputeProfileSpec | None
) -> PodAllocation:
    """Return the pod on another Node, as if it had been there all the time; `profile` is its own."""
    return replace(
        known,
        node=node.uid,
        sku=build_sku(node, known.sku.profile, profile),
        site=replace(known.site, provider=node.provider, region=node.region),
    )


def end_by_evidence(known: PodAllocation, evidence: int) -> PodAllocation:
    """Return the usage of a pod that is gone without an observed end: it ends at `evidence`."""
    return merge_pods(known, replace(known, end=EndTime(LAST_SEEN, max(evidence, known.start))))
