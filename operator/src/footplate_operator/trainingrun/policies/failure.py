"""Decides whether a failure ends the run or is worth another try.

Hardware breaks daily on a large machine, a bug breaks every time: one retry
counter for both either gives up on a healthy month or repeats a bug for ever.
So every cause has a restart limit of its own, and the same error without progress ends
the run early. What can only be the infrastructure's doing ends no run by itself: it spends
no progress, and has a limit only if a user sets one. What may be the user's
doing always has one.

Progress is an attempt that began at a later step than the one before it, from a
checkpoint or from copies in memory.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from footplate_contracts.failures import MESSAGE_LIMIT, FailureReport, remedy_of, truncate_message
from footplate_contracts.names import Cause, Reason
from footplate_operator.trainingrun import failure_window
from footplate_operator.trainingrun.history import History

DEFAULT_RESTART_LIMITS: Final[Mapping[Cause, int | None]] = {
    Cause.USER_ERROR: 3,
    Cause.OUT_OF_MEMORY: 1,
    Cause.COMMUNICATION: None,
    Cause.NODE_LOST: None,
    Cause.PREEMPTED: None,
    Cause.HANG: 5,
    Cause.NO_PROGRESS: 1,
    Cause.STORAGE: 10,
    Cause.NUMERICAL_DIVERGENCE: 2,
    Cause.IMAGE_OR_CONFIG: 0,
    Cause.STRAGGLER_SUSPECTED: None,
}

FRUITLESS_RESTARTS: Final = 3  # restarts without progress that make one NoProgress

INFRASTRUCTURE: Final = frozenset({Cause.COMMUNICATION, Cause.NODE_LOST, Cause.PREEMPTED})
SPENDS_PROGRESS: Final = frozenset({Cause.USER_ERROR, Cause.HANG, Cause.OUT_OF_MEMORY})
# A restart reads the same bytes and the same fields again.
_BEYOND_RETRY: Final = frozenset({Reason.DATA_MISSING, Reason.DATA_CORRUPT, Reason.CONFIG_REFUSED})

_ELSEWHERE: Final = 10  # times that another node is tried which may have the image

_OOM_HINT: Final = (
    "a smaller training.microBatchSize, activationCheckpointing or parallelism.sharding saves memory"
)
_SHARED_MEMORY: Final = re.compile(
    r"shared memory|/dev/shm|</torch_|killed by signal: Bus error", re.IGNORECASE
)
_SHARED_MEMORY_HINT: Final = "network.sharedMemoryGiB of the ComputeProfile sets the size of /dev/shm"
_EVICTED_HINT: Final = "request and allow more of it in resources of the ComputeProfile"


class FailureAction(StrEnum):
    """Consequence of a failure."""

    RESTART = "restart"
    FAIL = "fail"


class FailureSource(StrEnum):
    """Source of a failure report."""

    COORDINATOR = "coordinator"  # what a rank or its agent reported: it knows why
    KUBERNETES = "kubernetes"  # the end of a pod: it knows that, and hardly why


@dataclass(frozen=True)
class RunFailure:
    """Observed failure of a run."""

    report: FailureReport
    generation: str | None = ""  # that it ended; empty: none was sealed; None: whichever the pod was part of
    node: str = ""
    source: FailureSource = FailureSource.COORDINATOR
    incarnation: int | None = None  # of the pod that it is of, if any is left
    checkpoint_step: int | None = None  # of the newest durable checkpoint then, where that is known


@dataclass(frozen=True)
class FailureDecision:
    """Decision about a failure, with the reason and message for the user."""

    action: FailureAction
    cause: Cause
    reason: str
    message: str


def next_action(limits: Mapping[str, int], history: History, failure: RunFailure) -> FailureDecision:
    """Decide on a restart or the run's end, after `failure`.

    Args:
        limits: restarts allowed by cause, beside the defaults.
        history: the history before this failure.
    """
    report = failure.report
    if _hopeless(history, report):
        return _fail(report, report.reason)
    if _identical(history, report):
        return _fail(report, report.reason, "the same error twice without a checkpoint in between: ")
    fruitless, allowed = fruitless_restarts(history, SPENDS_PROGRESS), _limit(limits, Cause.NO_PROGRESS)
    if report.cause in SPENDS_PROGRESS and allowed is not None and fruitless >= FRUITLESS_RESTARTS * allowed:
        message = f"{fruitless} restarts without progress; last: {report.message}"
        return FailureDecision(FailureAction.FAIL, Cause.NO_PROGRESS, Cause.NO_PROGRESS.value, message)
    limit = _limit(limits, report.cause)
    if _retried_elsewhere(history, report) and report.cause not in limits:
        limit = _ELSEWHERE
    if limit is not None and count_recent_failures(history, report.cause) >= limit:
        times = "once" if limit == 0 else f"{limit + 1} times"
        reason = Reason.RESTART_LIMIT_EXCEEDED if limit else report.reason
        return _fail(report, reason, f"{report.cause} {times}, {limit} allowed; last: ")
    message = _with_hint(report, remedy_of(report))
    return FailureDecision(FailureAction.RESTART, report.cause, report.reason, message)


def find_exceeded_limit(
    limits: Mapping[str, int], history: History, causes: Iterable[Cause]
) -> FailureDecision | None:
    """Return the decision that ends a run with more failures by one of `causes` than allowed, if any."""
    for cause in causes:
        limit, number = _limit(limits, cause), count_recent_failures(history, cause)
        if limit is not None and number > limit:
            message = f"{cause} {number} times, {limit} allowed; most of them while no operator was running"
            return FailureDecision(FailureAction.FAIL, cause, Reason.RESTART_LIMIT_EXCEEDED, message)
    return None


def count_recent_failures(history: History, cause: Cause) -> int:
    """Count failures by `cause` since the third-newest durable checkpoint, and for 24 h at least."""
    return failure_window.count_failures(history.recent, cause, history.checkpoint_steps, history.now)


def fruitless_restarts(history: History, causes: Collection[Cause]) -> int:
    """Count restarts after failures by `causes`, newest first, since the last progress."""
    if _checkpointed(history):
        return 0
    count, next_start = 0, history.start_step
    for attempt in reversed(history.closed):
        if next_start > attempt.start_step:
            break
        count += attempt.cause in causes
        next_start = attempt.start_step
    return count


def _hopeless(history: History, report: FailureReport) -> bool:
    if report.reason in _BEYOND_RETRY:
        return True
    # Without a single checkpoint a full volume leaves nothing to go on from.
    return report.reason == Reason.STORAGE_FULL and history.checkpoint_step is None


def _identical(history: History, report: FailureReport) -> bool:
    if report.cause is not Cause.USER_ERROR or not history.closed or _checkpointed(history):
        return False
    last = history.closed[-1]
    if history.start_step > last.start_step and history.step > (last.end_step or 0):
        return False  # it has come further than the same error let it come before
    return (
        last.cause is Cause.USER_ERROR
        and last.reason == report.reason
        and _gist(last.message) == _gist(report.message)
    )


def _gist(message: str) -> str:
    """Return `message` without the parts that differ from one time to the next: addresses, ranks, counts."""
    return re.sub(r"0x[0-9a-f]+|\d+", "#", message.lower())


def _checkpointed(history: History) -> bool:
    """Return whether the running attempt got as far as a checkpoint of its own."""
    return (history.checkpoint_step or 0) > history.start_step


def _retried_elsewhere(history: History, report: FailureReport) -> bool:
    """Return whether a node cannot pull an image that the run has trained with: others may have it."""
    return report.cause is Cause.IMAGE_OR_CONFIG and history.stepped


def _limit(limits: Mapping[str, int], cause: Cause) -> int | None:
    """Return the restarts that `cause` is allowed; None: any number."""
    return limits.get(cause, DEFAULT_RESTART_LIMITS[cause])


def _fail(report: FailureReport, reason: str, before: str = "") -> FailureDecision:
    message = _with_hint(report, _hint(report), before)
    return FailureDecision(FailureAction.FAIL, report.cause, reason, message)


def _with_hint(report: FailureReport, hint: str, before: str = "") -> str:
    """Return the message of `report` between `before` and `hint`, which a long one does not push out."""
    after = f"; {hint}" if hint else ""
    return (
        before + truncate_message(report.message.rstrip(), MESSAGE_LIMIT - len(before) - len(after)) + after
    )


def _hint(report: FailureReport) -> str:
    """Return a remedy for the failure; empty if none is known."""
    if report.reason == "Evicted":
        return _EVICTED_HINT
    if report.cause is not Cause.OUT_OF_MEMORY:
        return remedy_of(report)
    return _SHARED_MEMORY_HINT if _SHARED_MEMORY.search(report.message) else _OOM_HINT
