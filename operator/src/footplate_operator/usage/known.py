"""Usage of one object, as input of its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from footplate_ledger.usage import NodeUsage, PodUsage


@dataclass(frozen=True)
class OwnUsage:
    """An object's pods, and the pods and Nodes that they shared."""

    pods: Sequence[PodUsage] = ()
    others: Sequence[PodUsage] = ()  # of other objects, on the same Nodes
    nodes: Sequence[NodeUsage] = ()  # those of its pods that are known
