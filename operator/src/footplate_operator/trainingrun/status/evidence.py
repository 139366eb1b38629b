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
from footplate_contracts.reports import CoordinatorState, NumberedFailure
from footplate_operator.runtime.clock import from_epoch
from footplate_operator.trainingrun.observed import Loss, PodView, worker_of

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


def format_seen(seen: Seen) -> str:
    """The inverse of `parse_seen`."""
    return f"{seen[0]}.{seen[1]}" if seen > (0, 0) else ""


def news(state: CoordinatorState, seen: Seen) -> list[tuple[Seen, Interruption]]:
    """Failures that the coordinator lists beyond `seen`, oldest first."""
    fresh = [failure for failure in state.failures if (state.epoch, failure.number) > seen]
    fresh.sort(key=lambda failure: failure.number)
    return [((state.epoch, failure.number), _told(failure)) for failure in fresh]


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


def explained(state: CoordinatorState, pods: Iterable[PodView], now: datetime) -> list[Interruption]:
    """What Kubernetes says of the ends of workers that the coordinator merely lost.

    It heard no more than the end of a connection, and the pod tells why a moment
    later: when the kernel ends a container for memory, its agent goes with it.
    """
    ended = {pod.worker: pod for pod in pods if pod.ended}
    found = []
    for numbered in state.failures:
        pod = ended.get(worker_of(numbered.agent))
        if pod is None or numbered.generation is None or numbered.failure.cause is not Cause.NODE_LOST:
            continue
        if _cause(pod)[0] in TOLD_BY_KUBERNETES:
            found.append(from_loss(Loss(pod.index, pod), str(numbered.generation), now))
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
