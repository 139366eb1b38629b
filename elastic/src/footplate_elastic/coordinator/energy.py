"""What each pod of a run has consumed, as its agent told it last.

Agents repeat their sums with every word, so a coordinator that was replaced knows them a second later. More
energy alone is no news for the operator: it reads the sums with whatever else has changed, or when its
question has waited long enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from footplate_contracts.energy import MOST_PODS, PodEnergy

SPARES: Final = 256  # the most that a run may have beside its nodes


def kept(nodes: int) -> int:
    """Of how many pods a run of `nodes` keeps the sums: of all that live, and of as many that have ended."""
    return min(MOST_PODS, 2 * (nodes + SPARES))


@dataclass
class EnergyOfPods:
    """Sums by pod, of those that were heard last; also of pods that are gone."""

    _pods: dict[str, PodEnergy] = field(default_factory=dict)  # heard longest ago first

    def hear(self, energy: PodEnergy | None, nodes: int) -> None:
        """An agent of a run of `nodes` tells its pod's sums: none falls, in whatever order words come."""
        if energy is None:
            return
        known = self._pods.pop(energy.pod_uid, energy)
        self._pods[energy.pod_uid] = energy.newest(known)
        while len(self._pods) > kept(nodes):
            del self._pods[next(iter(self._pods))]

    def told(self) -> list[PodEnergy]:
        """All that is known."""
        return list(self._pods.values())
