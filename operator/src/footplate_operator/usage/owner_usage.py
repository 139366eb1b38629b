"""Usage of one object, as input of its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from footplate_ledger.usage import NodeLifetime, PodAllocation


@dataclass(frozen=True)
class OwnerUsage:
    """An object's pods, and the pods and Nodes that they shared."""

    pods: Sequence[PodAllocation] = ()
    others: Sequence[PodAllocation] = ()  # of other objects, on the same Nodes
    nodes: Sequence[NodeLifetime] = ()  # those of its pods that are known
