"""Pods that leave their nodes, because those are about to end: together, and before they have to.

Each of them saves with all the others before it ends, and a save is the cost of a move. If a node's end was
announced they leave at once, and the scheduler places the substitutes.

A cordon announces no end by itself, and if no other node is free a run whose worker left would stop. So a
worker on a cordoned node trains on until a spare waits for its slot. The operator creates that spare beside
the spec's, and deletes it with the cordon. An eviction on the same node shows that the node is drained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_operator.runtime.conditions import shorten
from footplate_operator.trainingrun.observation import PodView

# Longer than `kubectl cordon` takes for a dozen nodes; a spot notice is told half a minute before.
SETTLE_SECONDS: Final = 2.0
# Without a coordinator nobody saves. Its successor may be on its way, and half a minute is all there is.
UNHEARD_SECONDS: Final = 15.0
# For the spares of several workers to be there, so that these leave with one save.
TOGETHER_SECONDS: Final = 10.0


@dataclass(frozen=True)
class DrainStep:
    """Pods that leave now, and the seconds after which others may."""

    pods: tuple[PodView, ...] = ()
    wait: float | None = None


@dataclass(frozen=True)
class CordonPlan:
    """Workers on cordoned nodes, and the spares that take their slots."""

    workers: tuple[PodView, ...] = ()
    ready: tuple[PodView, ...] = ()  # spares that wait, and are needed for no slot that is free already
    wanted: int = 0  # spares that should exist, those that the spec asks for included
    kept: int = 0  # spares beyond these are too many

    @property
    def message(self) -> str:
        """Workers that stay on cordoned nodes, as text; empty for none."""
        words = shorten([f"worker {pod.index} on node {pod.node}" for pod in self.workers])
        return f"{words} waits for a substitute: its node is cordoned" if words else ""


def plan_cordon(
    workers: Iterable[PodView],
    spares: Iterable[PodView],
    state: CoordinatorState,
    covered: int,
    asked: int,
    now: datetime,
) -> CordonPlan:
    """Return the workers on cordoned nodes, and their spares.

    Args:
        workers: the pod of each slot.
        covered: free slots that spares take in a moment.
        asked: `compute.spares`.
    """
    leaving = tuple(pod for pod in workers if pod.cordoned and pod.live)
    trains = state.state is RunState.TRAINING
    settled = leaving if trains and any(pod.noticed_for(now) >= SETTLE_SECONDS for pod in leaving) else ()
    waiting = {agent.pod_name for agent in state.waiting if agent.is_spare}
    ready = [pod for pod in spares if pod.name in waiting and pod.live and not pod.notice]
    return CordonPlan(
        workers=leaving,
        ready=tuple(ready[covered:]) if trains else (),
        wanted=max(asked, len(settled) + covered),
        kept=max(asked, len(leaving) + covered),
    )


def select_due(pods: Iterable[PodView], now: datetime, timeout: float = SETTLE_SECONDS) -> DrainStep:
    """Return all of `pods` that should leave, once one of them has been due for `timeout` seconds."""
    told = tuple(pod for pod in pods if pod.live and pod.notice)
    if not told:
        return DrainStep()
    left = timeout - max(pod.noticed_for(now) for pod in told)
    return DrainStep(wait=left) if left > 0 else DrainStep(told)


def select_relieved(relief: CordonPlan, now: datetime) -> DrainStep:
    """Return the workers on cordoned nodes that leave now: all at once if that is possible soon."""
    workers = sorted(relief.workers, key=lambda pod: (-pod.noticed_for(now), pod.index))
    if not workers:
        return DrainStep()
    waited = workers[0].noticed_for(now)
    left = SETTLE_SECONDS - waited
    if left <= 0 and 0 < len(relief.ready) < len(workers):
        left = TOGETHER_SECONDS - min(waited, max(pod.running_for(now) for pod in relief.ready))
    return DrainStep(wait=left) if left > 0 else DrainStep(tuple(workers[: len(relief.ready)]))


def find_drained(workers: Iterable[PodView], pods: Iterable[PodView]) -> list[PodView]:
    """Return the workers on cordoned nodes from which one of the run's `pods` is being evicted."""
    places = {pod.node for pod in pods if pod.terminating and pod.disruption}
    return [pod for pod in workers if pod.live and pod.cordoned and pod.node in places]
