"""The taints that announce the end of a node.

A profile names them. A cordon is one of them, though it says less: nothing new comes to the node, and what
runs there may go on until it is evicted. Whoever tolerates such a taint by its name says that its pods may
stay; a toleration of whatever there is says nothing of the kind, but then the scheduler would use the node,
and has to be kept from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from footplate_contracts.v1alpha1.computeprofile import DisruptionTaint, Scheduling
from footplate_operator.trainingrun.node import UNSCHEDULABLE, Taint

CORDONED: Final = "its node is cordoned"
_REPELLING = frozenset({"NoSchedule", "NoExecute"})


def ending(taints: Iterable[Taint], scheduling: Scheduling) -> str:
    """Why pods should leave a node with these `taints`, in words; empty where they need not."""
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


def admits(taints: Iterable[Taint], scheduling: Scheduling) -> bool:
    """Whether the scheduler would bind pods to a node with these `taints`."""
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
    """As Kubernetes has it."""
    if toleration.get("effect") and toleration["effect"] != taint.effect:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key", "") in ("", taint.key)
    return toleration.get("key") == taint.key and toleration.get("value", "") == taint.value
