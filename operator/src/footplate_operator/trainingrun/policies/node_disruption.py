"""Taints that announce the end of a node.

A profile lists them. A cordon is one of them, though a weaker sign: no new pod comes to the node, and running
pods may stay until they are evicted. A toleration of such a taint by name allows the pods to
stay; a toleration of all taints does not, but then the scheduler would use the node,
and the operator has to exclude it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from footplate_contracts.v1alpha1.computeprofile import DisruptionTaint, Scheduling
from footplate_operator.trainingrun.node import UNSCHEDULABLE, Taint

CORDONED: Final = "its node is cordoned"
_REPELLING = frozenset({"NoSchedule", "NoExecute"})


def get_disruption_reason(taints: Iterable[Taint], scheduling: Scheduling) -> str:
    """Return why pods should leave a node with these `taints`, as text; empty if they need not."""
    by_name = [toleration for toleration in scheduling.tolerations if toleration.get("key")]
    told = [
        taint
        for taint in taints
        if any(_named(taint, named) for named in scheduling.disruption_taints)
        and not any(_tolerated(taint, toleration) for toleration in by_name)
    ]
    if not told:
        return ""
    first = min(told, key=lambda taint: (taint.key == UNSCHEDULABLE, taint.key))
    return CORDONED if first.key == UNSCHEDULABLE else f"its node has the taint {first.key}"


def is_schedulable(taints: Iterable[Taint], scheduling: Scheduling) -> bool:
    """Return whether the scheduler would bind pods to a node with these `taints`."""
    return all(
        any(_tolerated(taint, toleration) for toleration in scheduling.tolerations)
        for taint in taints
        if taint.effect in _REPELLING
    )


def _named(taint: Taint, named: DisruptionTaint) -> bool:
    return (
        taint.key == named.key and named.value in (None, taint.value) and named.effect in (None, taint.effect)
    )


def _tolerated(taint: Taint, toleration: Mapping[str, Any]) -> bool:
    """Return whether the toleration matches the taint, by the rules of Kubernetes."""
    if toleration.get("effect") and toleration["effect"] != taint.effect:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key", "") in ("", taint.key)
    return toleration.get("key") == taint.key and toleration.get("value", "") == taint.value
