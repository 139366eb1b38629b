"""Pods that leave their nodes, because those are about to end: together, and before they have to.

Each of them saves with all the others before it ends, and a save is what a move costs. So nodes that are
cordoned one after the other, in a second or two, are left at once. Which pod goes where is the scheduler's;
where there is no room the run waits as one does that has lost a node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_operator.trainingrun.observed import PodView

# Longer than `kubectl cordon` takes for a dozen nodes; a spot notice is told half a minute before.
SETTLE_SECONDS: Final = 2.0
# Without a coordinator nobody saves. Its successor may be on its way, and half a minute is all there is.
UNHEARD_SECONDS: Final = 15.0


@dataclass(frozen=True)
class Moves:
    """Pods that leave now, and in how many seconds others may."""

    pods: tuple[PodView, ...] = ()
    wait: float | None = None


def due(pods: Iterable[PodView], now: datetime, patience: float = SETTLE_SECONDS) -> Moves:
    """Those of `pods` that leave: all that should, once one of them should for so many seconds."""
    told = tuple(pod for pod in pods if pod.live and pod.notice)
    if not told:
        return Moves()
    left = patience - max(pod.noticed_for(now) for pod in told)
    return Moves(wait=left) if left > 0 else Moves(told)
