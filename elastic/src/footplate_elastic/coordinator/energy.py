"""Energy of each pod of a run, as its agent reported it last.

Agents repeat their sums with every message, so a replaced coordinator knows them a second later. More energy
alone is no news for the operator: it reads the sums with the next change, or when its long-poll times out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from footplate_contracts.energy import MOST_PODS, PodEnergy

SPARES: Final = 256  # the most that a run may have beside its nodes


def max_stored_pods(nodes: int) -> int:
    """Return for how many pods a run of `nodes` stores sums: all live ones, and as many ended ones."""
    return min(MOST_PODS, 2 * (nodes + SPARES))


@dataclass
class PodEnergyTotals:
    """Sums by pod, for the most recently reported pods, including ended ones."""

    _pods: dict[str, PodEnergy] = field(default_factory=dict)  # heard longest ago first

    def update(self, energy: PodEnergy | None, nodes: int) -> None:
        """Store a pod's sums in a run of `nodes`; none falls, in whatever order messages arrive."""
        if energy is None:
            return
        known = self._pods.pop(energy.pod_uid, energy)
        self._pods[energy.pod_uid] = energy.merge(known)
        while len(self._pods) > max_stored_pods(nodes):
            del self._pods[next(iter(self._pods))]

    def list_totals(self) -> list[PodEnergy]:
        """Return all known sums."""
        return list(self._pods.values())
