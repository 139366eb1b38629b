"""Which workers are held to be gone, and whose loss ends a generation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from footplate_contracts.names import Cause, WorkerId
from footplate_contracts.reports import CoordinatorState, RunState
from footplate_operator.trainingrun.observed import LostWorker, PodView

UNREADY_SECONDS: Final = 2.0  # longer than a pod takes from its first container to Ready


def abandoned(state: CoordinatorState) -> frozenset[WorkerId]:
    """Workers that the coordinator holds to be lost and has not heard of since."""
    missing = set(state.missing)
    return frozenset(
        failure.agent.worker
        for failure in state.failures
        if failure.failure.cause is Cause.NODE_LOST and failure.agent.index in missing
    )


def unheard(state: CoordinatorState, pods: Iterable[PodView], now: datetime) -> frozenset[WorkerId]:
    """Workers that both coordinator and Kubernetes miss.

    The coordinator gathers, or trains without the slot, and has not heard of it,
    and Kubernetes says that the pod there, which ran, is not ready any more: its node is gone. A
    coordinator that went with the same node has a successor that never knew
    the worker, so it cannot call it lost.
    """
    gathers = state.state is RunState.GATHERING
    missing = set(state.missing) - (frozenset() if gathers else state.member_indices)
    return frozenset(
        pod.worker
        for pod in pods
        if pod.live and pod.started and pod.index in missing and pod.unready_for(now) >= UNREADY_SECONDS
    )


def interrupts(worker: LostWorker, state: CoordinatorState, trained: int) -> bool:
    """Whether the loss of `worker` may have ended a generation.

    A pod beside the generation that trains, and a slot that never had one,
    are missed by nobody. `trained`: the nodes that the run trained with last, or
    was admitted with.
    """
    members = {member.agent.worker for member in state.members}
    if worker.pod is None:
        return worker.index in state.member_indices if members else worker.index < trained
    if not members or state.state is RunState.GATHERING:
        return True
    return worker.pod.worker in members
