"""What is known of the usage of one object, as an account needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from footplate_ledger.usage import NodeUsage, PodUsage


@dataclass(frozen=True)
class OwnUsage:
    """Its pods, and with whom they shared their Nodes."""

    pods: Sequence[PodUsage] = ()
    others: Sequence[PodUsage] = ()  # of other objects, on the same Nodes
    nodes: Sequence[NodeUsage] = ()  # those of its pods that are known
