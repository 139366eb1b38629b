"""Spare pods: how many are missing, and which of them have become workers.

The coordinator gives a spare the slot of a lost worker without asking anybody.
From then on the operator counts the pod as a worker, and labels it so for everybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from footplate_contracts.names import Role, WorkerId
from footplate_contracts.reports import CoordinatorState
from footplate_operator.runtime.decision import Patch
from footplate_operator.trainingrun.labels import slot_labels
from footplate_operator.trainingrun.observed import PodView
from footplate_operator.trainingrun.policies.backoff import not_before


@dataclass(frozen=True)
class SparePlan:
    """Spares to make now, `index` being their number, and when the next one may be made that has to wait."""

    missing: tuple[WorkerId, ...] = ()
    due: datetime | None = None

    def counter(self, known: int) -> int:
        """The highest incarnation once `missing` exist; `known` is that of all others."""
        return max([known, *(spare.incarnation for spare in self.missing)])


def plan(wanted: int, pods: Sequence[PodView], counter: int, now: datetime) -> SparePlan:
    """Which of `wanted` spares should be made; `counter` is the highest incarnation of any worker."""
    newest = max([counter, *(pod.incarnation for pod in pods)])
    missing: list[WorkerId] = []
    waits: list[datetime] = []
    for number in range(wanted):
        earlier = [pod for pod in pods if pod.index == number]
        if any(pod.live for pod in earlier):
            continue
        due = not_before(earlier, now)
        if due > now:
            waits.append(due)
        else:
            missing.append(WorkerId(number, newest + 1))
    return SparePlan(tuple(missing), min(waits, default=None))


def ready(state: CoordinatorState, pods: Sequence[PodView]) -> int:
    """Spares among `pods` that will take a lost slot in a moment, so that no substitute is needed."""
    if state.generation is None:
        return 0
    live = {pod.name for pod in pods if pod.live}
    return sum(agent.spare and agent.pod_name in live for agent in state.waiting)


def promotion(worker: PodView) -> Patch:
    """Label a spare as the `worker` that it has become."""
    labels = slot_labels(Role.WORKER, worker.worker)
    return Patch(worker, {"metadata": {"labels": labels}}, verb="promoting")


def promoted(pods: Sequence[PodView], state: CoordinatorState) -> tuple[PodView, ...]:
    """Spares among `pods` that have a slot of the gang, as the workers that they are."""
    # One that has a slot already waits for the others before it is a member.
    agents = [*state.waiting, *(member.agent for member in state.members)]
    workers = {agent.pod_name: agent.worker for agent in agents if not agent.spare}
    return tuple(
        replace(pod, role=Role.WORKER, index=worker.index, incarnation=worker.incarnation)
        for pod in pods
        if (worker := workers.get(pod.name)) is not None
    )
