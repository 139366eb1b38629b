"""What speaks for an interruption: the coordinator's list of failures, and pods that are gone.

Both may tell of the same event. A rank's traceback says more than the exit code
of its pod, so what ended one generation is one interruption, and the better
witness is believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_contracts.reports import CoordinatorState, NumberedFailure, RunState
from footplate_operator.runtime.clock import from_epoch
from footplate_operator.trainingrun.observed import Loss, PodView

CONFIG_CODE: Final = int(ExitCode.CONFIG)
UNREADY_SECONDS: Final = 2.0  # longer than a pod takes from its first container to Ready

TOLD_BY_KUBERNETES: Final = frozenset({Cause.OUT_OF_MEMORY, Cause.PREEMPTED})

Seen = tuple[int, int]  # (epoch, number) of the newest failure counted


@dataclass(frozen=True)
class Interruption:
    """One failure, from either witness."""

    cause: Cause
    reason: str
    message: str
    time: datetime
    generation: str = ""  # that it ended; empty where none was sealed
    node: str = ""
    rank: int | None = None
    exit_code: int | None = None
    step: int | None = None
    hearsay: bool = False  # a pod's end: says that, but hardly why


def parse_seen(text: str) -> Seen:
    """`status.failuresSeen` as numbers; (0, 0) for none."""
    epoch, _, number = text.partition(".")
    return (int(epoch), int(number)) if epoch.isdigit() and number.isdigit() else (0, 0)


def news(state: CoordinatorState | None, seen: Seen) -> list[tuple[Seen, Interruption]]:
    """Failures that the coordinator lists beyond `seen`, oldest first."""
    if state is None:
        return []
    fresh = [each for each in state.failures if (state.epoch, each.number) > seen]
    fresh.sort(key=lambda each: each.number)
    return [((state.epoch, each.number), _told(each)) for each in fresh]


def _told(numbered: NumberedFailure) -> Interruption:
    failure = numbered.failure
    return Interruption(
        cause=failure.cause,
        reason=failure.reason or failure.cause.value,
        message=failure.message,
        time=from_epoch(failure.time),
        generation=str(numbered.generation) if numbered.generation else "",
        node=numbered.agent.node_name,
        rank=failure.rank if failure.rank is None or failure.rank >= 0 else None,
        exit_code=failure.exit_code,
        step=failure.step,
    )


def abandoned(state: CoordinatorState | None) -> frozenset[tuple[int, int]]:
    """(index, incarnation) of workers that the coordinator holds to be lost and has not heard of since."""
    if state is None:
        return frozenset()
    missing = set(state.missing)
    return frozenset(
        (each.agent.index, each.agent.incarnation)
        for each in state.failures
        if each.failure.cause is Cause.NODE_LOST and each.agent.index in missing
    )


def counts(loss: Loss, state: CoordinatorState | None, trained: int) -> bool:
    """Whether `loss` may have ended a generation.

    A pod beside the generation that trains, and a place that never had one,
    are missed by nobody. `trained`: the nodes that the run trained with last, or
    was admitted with.
    """
    members = {each.agent.index: each.agent.incarnation for each in state.members} if state else {}
    if loss.pod is None:
        return loss.index in members if members else loss.index < trained
    if state is None or not members or state.state is RunState.GATHERING:
        return True
    return members.get(loss.pod.index) == loss.pod.incarnation


def unheard(
    state: CoordinatorState | None, pods: Iterable[PodView], now: datetime
) -> frozenset[tuple[int, int]]:
    """(index, incarnation) of workers that two witnesses miss.

    The coordinator gathers, or trains without the place, and has not heard of it,
    and Kubernetes says that the pod there, which ran, is not ready any more: its node is gone. A
    coordinator that went with the same node has a successor that never knew
    the worker, so it cannot call it lost.
    """
    if state is None:
        return frozenset()
    gathers = state.state is RunState.GATHERING
    missing = set(state.missing) - (set() if gathers else {each.agent.index for each in state.members})
    return frozenset(
        (pod.index, pod.incarnation)
        for pod in pods
        if pod.live and pod.started and pod.index in missing and pod.unready_for(now) >= UNREADY_SECONDS
    )


def explained(state: CoordinatorState | None, pods: Iterable[PodView], now: datetime) -> list[Interruption]:
    """What Kubernetes says of the ends of workers that the coordinator merely lost.

    It heard no more than the end of a connection, and the pod tells why a moment
    later: when the kernel ends a container for memory, its agent goes with it.
    """
    ended = {(pod.index, pod.incarnation): pod for pod in pods if pod.ended}
    found = []
    for each in state.failures if state else ():
        pod = ended.get((each.agent.index, each.agent.incarnation))
        if pod is None or each.generation is None or each.failure.cause is not Cause.NODE_LOST:
            continue
        if _cause(pod)[0] in TOLD_BY_KUBERNETES:
            found.append(from_loss(Loss(pod.index, pod.incarnation, pod), str(each.generation), now))
    return found


def from_loss(loss: Loss, generation: str, now: datetime) -> Interruption:
    """What the end of a worker pod says about why."""
    pod = loss.pod
    if pod is None:
        message = f"the pod of worker {loss.index} was deleted"
        return Interruption(
            Cause.NODE_LOST, Reason.POD_DELETED, message, now, generation=generation, hearsay=True
        )
    cause, reason = _cause(pod)
    return Interruption(
        cause=cause,
        reason=reason,
        message=words(pod),
        time=pod.finished or now,
        generation=generation,
        node=pod.node,
        exit_code=pod.exit_code,
        hearsay=True,
    )


def _cause(pod: PodView) -> tuple[Cause, str]:
    if pod.terminated_reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY
    if pod.disruption == "DeletionByPodGC":
        return Cause.NODE_LOST, pod.disruption
    if pod.disruption or pod.reason in ("Preempting", "Shutdown", "Terminated", "NodeShutdown"):
        return Cause.PREEMPTED, pod.disruption or pod.reason
    if pod.reason == "Evicted":
        return Cause.PREEMPTED, pod.reason
    if not pod.ended:
        reason = Reason.POD_DELETED if pod.terminating else Reason.AGENT_LOST
        return Cause.NODE_LOST, reason
    by_code = {
        ExitCode.USER_ERROR: (Cause.USER_ERROR, Reason.POD_FAILED),
        ExitCode.STORAGE: (Cause.STORAGE, Reason.STORAGE_ERROR),
        ExitCode.CONFIG: (Cause.IMAGE_OR_CONFIG, Reason.CONFIG_REFUSED),
        126: (Cause.IMAGE_OR_CONFIG, Reason.CONTAINER_CONFIG),
        127: (Cause.IMAGE_OR_CONFIG, Reason.CONTAINER_CONFIG),
        128: (Cause.IMAGE_OR_CONFIG, Reason.CONTAINER_CONFIG),  # the program could not be started
    }
    return by_code.get(pod.exit_code or 0, (Cause.NODE_LOST, Reason.POD_FAILED))


def words(pod: PodView) -> str:
    """What the end of a pod says, for a person."""
    where = f" on node {pod.node}" if pod.node else ""
    if pod.terminating:
        return f"pod {pod.name}{where} is being deleted"
    if not pod.ended:
        return f"pod {pod.name}{where} is not heard of"
    parts = [f"pod {pod.name}{where} ended"]
    if pod.exit_code is not None:
        parts.append(f"with exit code {pod.exit_code}")
    if pod.terminated_reason not in ("", "Error", "Completed"):
        parts.append(f"({pod.terminated_reason})")
    said = pod.message or pod.reason
    text = " ".join(parts)
    return f"{text}: {said}" if said else text
