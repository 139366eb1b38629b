"""Does this failure end the run, or is it worth another try?

Hardware breaks daily on a large machine, a bug breaks every time: one retry
counter for both either gives up on a healthy month or repeats a bug for ever.
So every cause has a budget of its own, infrastructure never spends the user's,
and the same error without progress ends early.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from footplate_contracts.names import Cause, Reason

DEFAULT_BUDGETS: Final[Mapping[Cause, int | None]] = {
    Cause.USER_ERROR: 3,
    Cause.OUT_OF_MEMORY: 1,
    Cause.COMMUNICATION: 20,
    Cause.NODE_LOST: None,
    Cause.PREEMPTED: None,
    Cause.HANG: 5,
    Cause.NO_PROGRESS: 1,
    Cause.STORAGE: 10,
    Cause.NUMERICAL_DIVERGENCE: 2,
    Cause.IMAGE_OR_CONFIG: 0,
    Cause.STRAGGLER_SUSPECTED: None,
}

FRUITLESS_RESTARTS: Final = 3  # restarts without a new checkpoint step that make one NoProgress
REFILL: Final = timedelta(hours=24)
REFILL_CHECKPOINTS: Final = 3

_SPENDS_PROGRESS: Final = frozenset({Cause.USER_ERROR, Cause.HANG, Cause.COMMUNICATION, Cause.OUT_OF_MEMORY})
# A restart reads the same bytes and the same fields again.
_BEYOND_RETRY: Final = frozenset({Reason.DATA_MISSING, Reason.DATA_CORRUPT, Reason.CONFIG_REFUSED})

_OOM_HINT: Final = "; a smaller training.microBatchSize, recomputation or parallelism.sharding saves memory"


class Verdict(StrEnum):
    """What follows from a failure."""

    RESTART = "restart"
    FAIL = "fail"


@dataclass(frozen=True)
class Evidence:
    """One failure, as it was told."""

    cause: Cause
    reason: str
    message: str


@dataclass(frozen=True)
class Past:
    """An attempt that ended. `start_step` is the checkpoint it began from."""

    cause: Cause | None
    reason: str
    message: str
    end: datetime
    start_step: int
    end_step: int


@dataclass(frozen=True)
class History:
    """The run so far. `attempts` oldest first; `counts` are totals since creation."""

    attempts: tuple[Past, ...]
    counts: Mapping[str, int]
    created: datetime
    now: datetime
    current_start_step: int = 0
    checkpoint_step: int | None = None
    checkpoint_every: int = 1
    stepped: bool = False  # a step was finished at some time


@dataclass(frozen=True)
class Action:
    """The decision, with what a user should read."""

    verdict: Verdict
    cause: Cause
    reason: str
    message: str


def next_action(budgets: Mapping[str, int], history: History, evidence: Evidence) -> Action:
    """Restart or fail, after `evidence`.

    Args:
        budgets: failures allowed by cause, beside the defaults.
        history: what happened before this failure.
    """
    if _hopeless(history, evidence):
        return _fail(evidence, evidence.reason, evidence.message)
    if _identical(history, evidence):
        message = f"the same error twice without a checkpoint in between: {evidence.message}"
        return _fail(evidence, evidence.reason, message)
    fruitless, allowed = _fruitless(history), _budget(budgets, Cause.NO_PROGRESS)
    if (
        evidence.cause in _SPENDS_PROGRESS
        and allowed is not None
        and fruitless >= FRUITLESS_RESTARTS * allowed
    ):
        message = f"{fruitless} restarts without a new checkpoint; last: {evidence.message}"
        return Action(Verdict.FAIL, Cause.NO_PROGRESS, Cause.NO_PROGRESS.value, message)
    budget = _budget(budgets, evidence.cause)
    if (
        budget is not None
        and spent(history, evidence.cause) >= budget
        and not _retried_elsewhere(history, evidence)
    ):
        times = "once" if budget == 0 else f"{budget + 1} times"
        message = f"{evidence.cause} {times}, {budget} allowed; last: {evidence.message}"
        return _fail(evidence, Reason.BUDGET_EXHAUSTED if budget else evidence.reason, message)
    return Action(Verdict.RESTART, evidence.cause, evidence.reason, evidence.message)


def spent(history: History, cause: Cause) -> int:
    """Failures by `cause` since the third-newest durable checkpoint or for 24 h, whichever is longer.

    A run younger than that has all of them in its totals; an older one has
    them among its listed attempts.
    """
    if history.now - history.created <= REFILL:
        return history.counts.get(cause, 0)
    since = (history.checkpoint_step or 0) - (REFILL_CHECKPOINTS - 1) * history.checkpoint_every
    return sum(
        past.cause is cause and (history.now - past.end <= REFILL or past.end_step >= since)
        for past in history.attempts
    )


def _hopeless(history: History, evidence: Evidence) -> bool:
    if evidence.reason in _BEYOND_RETRY:
        return True
    # Without a single checkpoint a full volume leaves nothing to go on from.
    return evidence.reason == Reason.STORAGE_FULL and history.checkpoint_step is None


def _identical(history: History, evidence: Evidence) -> bool:
    if evidence.cause is not Cause.USER_ERROR or not history.attempts or _checkpointed(history):
        return False
    last = history.attempts[-1]
    return (
        last.cause is Cause.USER_ERROR
        and last.reason == evidence.reason
        and _gist(last.message) == _gist(evidence.message)
    )


def _gist(message: str) -> str:
    """`message` without what differs from one time to the next: addresses, ranks, counts."""
    return re.sub(r"0x[0-9a-f]+|\d+", "#", message.lower())


def _checkpointed(history: History) -> bool:
    """Whether the running attempt got as far as a checkpoint of its own."""
    return (history.checkpoint_step or 0) > history.current_start_step


def _fruitless(history: History) -> int:
    """Restarts, newest first, since which no new checkpoint step appeared."""
    count, next_start = 0, history.current_start_step
    for past in reversed(history.attempts):
        if (history.checkpoint_step or 0) > next_start:
            break
        count += past.cause in _SPENDS_PROGRESS
        next_start = past.start_step
    return count


def _retried_elsewhere(history: History, evidence: Evidence) -> bool:
    """An image that one node cannot pull, while the run has trained: another node may have it."""
    return evidence.cause is Cause.IMAGE_OR_CONFIG and history.stepped


def _budget(budgets: Mapping[str, int], cause: Cause) -> int | None:
    """Failures by `cause` that are allowed; None: any number."""
    return budgets.get(cause, DEFAULT_BUDGETS[cause])


def _fail(evidence: Evidence, reason: str, message: str) -> Action:
    hint = _OOM_HINT if evidence.cause is Cause.OUT_OF_MEMORY else ""
    return Action(Verdict.FAIL, evidence.cause, reason, message + hint)
