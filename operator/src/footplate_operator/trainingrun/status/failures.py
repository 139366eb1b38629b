"""Observed failures of a run: the coordinator's list, and lost pods.

Both may report the same event. A rank's traceback says more than the exit code
of its pod, so the end of one generation is one interruption, and the more
detailed report wins.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState, NumberedFailure, RunState
from footplate_contracts.failures import MESSAGE_LIMIT, OUTCOMES, REASON_LIMIT, FailureReport
from footplate_contracts.names import Cause, ExitCode, Phase, Reason
from footplate_operator.trainingrun.observation import LostWorker, PodView
from footplate_operator.trainingrun.policies import eviction
from footplate_operator.trainingrun.policies.failure import FailureSource, RunFailure
from footplate_operator.trainingrun.run import Run

_NOT_STARTED: Final = (126, 127, 128)  # what a shell and the container runtime say of a program
# Ends that somebody else has brought about, or that we asked for ourselves.
_NOBODYS_FAULT: Final = frozenset(
    {
        ExitCode.SUCCESS,
        ExitCode.SUSPENDED,
        ExitCode.STALE,
        128 + signal.SIGKILL,
        128 + signal.SIGTERM,
    }
)
_ANYTHING: Final = OUTCOMES[ExitCode.USER_ERROR]  # any program ends so
# The container runtime could not start the program: the image has none such, or the node is in trouble.
_RUNTIME: Final = ("StartError", "ContainerCannotRun")
_RUNTIME_TROUBLE: Final = re.compile(
    r"nvidia-container|nvml|running (prestart )?hook|cgroup|failed to find pid|os error"
    r"|resource temporarily unavailable|cannot allocate memory|no space left on device"
    r"|deadline exceeded|timed? ?out"
    # Somebody ended the container's first process, or the runtime's own, before the program began: these
    # are the words of runc (libcontainer/process_linux.go), of containerd and its shim.
    r"|stopped process|container that has stopped|process died before|procReady not received"
    r"|init-p: |from pipe( caused)?: |ttrpc: closed|shim disconnected|signal: killed|unexpected eof",
    re.IGNORECASE,
)
_TOO_LITTLE_MEMORY: Final = re.compile(r"init was OOM-killed|OOM: the memory limit")  # of runc, of crun
_UNSEEN: Final = "Unknown"  # containerd's word, with code 255, for what was gone when it came up again
_TAKEN: Final = ("Preempting", "Shutdown", "Terminated", "NodeShutdown")


@dataclass(frozen=True)
class FailureUpdate:
    """Failures observed since the status was written."""

    new: tuple[RunFailure, ...]  # the coordinator's first, as it knows why; then pods that are gone
    explanations: tuple[RunFailure, ...]  # what Kubernetes came to say of ends that are known already
    counted: str  # `internal.failuresSeen` with those that are new
    counted_by_cause: Mapping[str, int] = field(default_factory=dict)  # `internal.failuresSeenByCause`
    # Older than those in `new`, by cause, where there were more than a coordinator lists.
    unlisted: Mapping[Cause, int] = field(default_factory=dict)


def find_new_failures(
    run: Run,
    state: CoordinatorState,
    lost: Iterable[LostWorker],
    workers: Iterable[PodView],
    now: datetime,
) -> FailureUpdate:
    """Return the failures of `run` that its status does not know.

    Args:
        lost: workers whose loss may have ended a generation.
        workers: all worker pods.
    """
    known = run.status.internal
    epoch, number = _newest(known.failures_seen)
    by_cause: Mapping[str, int] = known.failures_seen_by_cause
    unlisted: Mapping[Cause, int] = {}
    fresh = [failure for failure in state.failures if (state.epoch, failure.number) > (epoch, number)]
    fresh.sort(key=lambda failure: failure.number)
    if fresh:
        if state.epoch != epoch:  # another coordinator, which counts from 1
            number, by_cause = 0, {}
        unlisted = _unlisted(state, fresh, number, by_cause)
        epoch, number, by_cause = state.epoch, fresh[-1].number, state.failures_by_cause
    # Pods of a run that is being suspended end because they were asked to, whatever became of that.
    told = [worker for worker in lost if worker.pod is None or worker.pod.exit_code != ExitCode.SUSPENDED]
    gone = () if run.phase is Phase.SUSPENDING or state.state is RunState.SUSPENDED else told
    return FailureUpdate(
        new=(*map(_listed, fresh), *(from_lost(worker, None, now) for worker in gone)),
        explanations=tuple(_explanations(state, workers, now)),
        counted=f"{epoch}.{number}" if number else "",
        counted_by_cause=by_cause,
        unlisted=unlisted,
    )


def _newest(failures_seen: str) -> tuple[int, int]:
    """Return epoch and number of the newest failure that is counted; zeros before the first."""
    epoch, _, number = failures_seen.partition(".")
    return (int(epoch), int(number)) if epoch.isdigit() and number.isdigit() else (0, 0)


def _unlisted(
    state: CoordinatorState, fresh: Sequence[NumberedFailure], known: int, counted: Mapping[str, int]
) -> dict[Cause, int]:
    """Count by cause the failures after number `known`, not yet `counted`, that are too old for `fresh`.

    Empty if an earlier release of either side did not count by cause.
    """
    listed = Counter(failure.failure.cause.value for failure in fresh)
    older = Counter(state.failures_by_cause) - Counter(counted) - listed
    if older.total() != fresh[0].number - known - 1:
        return {}
    return {Cause(cause): number for cause, number in sorted(older.items()) if cause in frozenset(Cause)}


def _listed(numbered: NumberedFailure) -> RunFailure:
    report, generation = numbered.failure, str(numbered.generation) if numbered.generation else ""
    if not report.reason:  # a condition needs one
        report = report.model_copy(update={"reason": report.cause.value})
    return RunFailure(report, generation, numbered.agent.node_name, checkpoint_step=numbered.checkpoint_step)


def _explanations(state: CoordinatorState, pods: Iterable[PodView], now: datetime) -> Iterator[RunFailure]:
    """Yield Kubernetes' reasons for the ends of workers that the coordinator merely lost.

    The coordinator saw only a closed connection, and the pod shows the reason a moment
    later: when the kernel ends a container for memory, its agent goes with it.
    """
    ended = {pod.worker: pod for pod in pods if pod.ended or (pod.terminating and pod.notice)}
    for numbered in state.failures:
        pod = ended.get(numbered.agent.worker)
        if pod is None or numbered.generation is None or numbered.failure.cause is not Cause.NODE_LOST:
            continue
        if _cause(pod)[0] is not Cause.NODE_LOST:
            yield from_lost(LostWorker(pod.index, pod), str(numbered.generation), now)


def from_lost(worker: LostWorker, generation: str | None, now: datetime) -> RunFailure:
    """Build the failure that the end of a worker's pod reports."""
    pod = worker.pod
    if pod is None:
        cause, reason = Cause.NODE_LOST, Reason.POD_DELETED.value
        message = f"the pod of worker {worker.index} was deleted"
    else:
        cause, reason = _cause(pod)
        message = describe_pod_end(pod)
    ended = pod.finished if pod is not None and pod.finished is not None else now
    report = FailureReport(
        cause=cause,
        reason=reason[:REASON_LIMIT],
        message=message[:MESSAGE_LIMIT],
        exit_code=pod.exit_code if pod is not None else None,
        time=ended.timestamp(),
    )
    node, incarnation = (pod.node, pod.incarnation) if pod is not None else ("", None)
    return RunFailure(report, generation, node, FailureSource.KUBERNETES, incarnation)


def _cause(pod: PodView) -> tuple[Cause, str]:
    if pod.terminated_reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY
    if pod.disruption == "DeletionByPodGC":
        return Cause.NODE_LOST, pod.disruption
    if pod.reason == "Evicted":
        return eviction.get_blamed_cause(pod.message) or Cause.PREEMPTED, pod.reason
    if pod.disruption or pod.reason in _TAKEN:
        return Cause.PREEMPTED, pod.disruption or pod.reason
    if pod.terminating and pod.notice and (not pod.ended or pod.exit_code in _NOBODYS_FAULT):
        return Cause.PREEMPTED, Reason.NODE_DRAINING
    if not pod.ended:
        reason = Reason.POD_DELETED if pod.terminating else Reason.AGENT_LOST
        return Cause.NODE_LOST, reason
    if pod.terminated_reason == _UNSEEN:
        return Cause.NODE_LOST, Reason.POD_FAILED
    if pod.terminated_reason in _RUNTIME and _TOO_LITTLE_MEMORY.search(pod.message):
        return Cause.OUT_OF_MEMORY, pod.terminated_reason
    if pod.terminated_reason in _RUNTIME and _RUNTIME_TROUBLE.search(pod.message):
        return Cause.NODE_LOST, pod.terminated_reason
    return _cause_of_code(pod.exit_code)


def _cause_of_code(code: int | None) -> tuple[Cause, str]:
    """Return cause and reason of an agent's exit code; `code` is None if no container reported one."""
    if code is None or code in _NOBODYS_FAULT:
        return Cause.NODE_LOST, Reason.POD_FAILED
    if code in _NOT_STARTED:
        return Cause.IMAGE_OR_CONFIG, Reason.CONTAINER_CANNOT_RUN
    # Any program ends with 1, and with a signal or a code that is not ours it ended by a mistake: that
    # it was Python which raised is a rank's to say.
    outcome = OUTCOMES.get(code, _ANYTHING)
    return outcome.cause, Reason.POD_FAILED if outcome is _ANYTHING else outcome.reason


def describe_pod_end(pod: PodView) -> str:
    """Describe the end of a pod, for a person."""
    where = f" on node {pod.node}" if pod.node else ""
    if pod.terminating:
        return f"pod {pod.name}{where} is being deleted" + (f": {pod.notice}" if pod.notice else "")
    if not pod.ended:
        return f"pod {pod.name}{where} does not report"
    parts = [f"pod {pod.name}{where} ended"]
    if pod.exit_code is not None:
        parts.append(f"with exit code {pod.exit_code}{_signal(pod.exit_code)}")
    if pod.terminated_reason not in ("", "Error", "Completed"):
        parts.append(f"({pod.terminated_reason})")
    said = pod.message or pod.reason
    text = " ".join(parts)
    return f"{text}: {said}" if said else text


def _signal(code: int) -> str:
    """Return the name of the signal in a container's exit code, as text; empty for none."""
    try:
        return f", which is {signal.Signals(code - 128).name}" if code > 128 else ""
    except ValueError:
        return ""
