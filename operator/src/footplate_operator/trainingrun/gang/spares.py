"""Spare pods: how many are missing, and which of them have become workers.

The coordinator gives a spare the place of a lost worker without asking anybody.
Its word makes the pod a worker situation, and labels make it one for everybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from footplate_contracts.names import Role
from footplate_contracts.reports import CoordinatorState
from footplate_operator.trainingrun.observed import Observed, PodView
from footplate_operator.trainingrun.policies.backoff import Life, not_before


@dataclass(frozen=True)
class SparePlan:
    """(number, incarnation) of spares to make now, and when the next one may be made that has to wait."""

    missing: tuple[tuple[int, int], ...] = ()
    due: datetime | None = None

    def counter(self, known: int) -> int:
        """The highest incarnation once `missing` exist; `known` is that of all others."""
        return max([known, *(incarnation for _, incarnation in self.missing)])


def plan(wanted: int, pods: Sequence[PodView], counter: int, now: datetime) -> SparePlan:
    """Which of `wanted` spares should be made; `counter` is the highest incarnation of any worker."""
    newest = max([counter, *(pod.incarnation for pod in pods)])
    missing: list[tuple[int, int]] = []
    waits: list[datetime] = []
    for number in range(wanted):
        tenants = [pod for pod in pods if pod.index == number]
        if any(pod.live for pod in tenants):
            continue
        due = not_before([Life(pod.created, pod.end) for pod in tenants if pod.ended], now)
        if due > now:
            waits.append(due)
        else:
            missing.append((number, newest + 1))
    return SparePlan(tuple(missing), min(waits, default=None))


def ready(state: CoordinatorState, observed: Observed) -> int:
    """Spares that will take a lost place in a moment, so that no substitute is needed."""
    if state.generation is None:
        return 0
    live = {pod.name for pod in observed.spares() if pod.live}
    return sum(agent.spare and agent.pod_name in live for agent in state.waiting)


def promoted(observed: Observed, state: CoordinatorState | None) -> tuple[Observed, tuple[PodView, ...]]:
    """`observed` with spares that have a place as the workers that they are; and those, for their labels."""
    # One that has a place already waits for the others before it is a member.
    agents = [*state.waiting, *(member.agent for member in state.members)] if state else []
    seats = {agent.pod_name: agent for agent in agents}
    pods: list[PodView] = []
    found: list[PodView] = []
    for pod in observed.pods:
        agent = seats.get(pod.name) if pod.role == Role.SPARE else None
        if agent is not None and not agent.spare:
            pod = replace(pod, role=Role.WORKER, index=agent.index, incarnation=agent.incarnation)
            found.append(pod)
        pods.append(pod)
    return replace(observed, pods=tuple(pods)), tuple(found)
