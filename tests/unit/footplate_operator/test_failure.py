"""The failure policy: named situations and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Reason
from footplate_contracts.v1alpha1.status import Attempt
from footplate_operator.runtime.clock import format_time, parse_time
from footplate_operator.trainingrun import failure_window
from footplate_operator.trainingrun.history import History
from footplate_operator.trainingrun.policies.failure import (
    DEFAULT_RESTART_LIMITS,
    INFRASTRUCTURE,
    FailureAction,
    RunFailure,
    next_action,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def seen(cause: Cause, reason: str, message: str) -> RunFailure:
    return RunFailure(FailureReport(cause=cause, reason=reason, message=message, time=NOW.timestamp()))


KILLED = seen(Cause.COMMUNICATION, Reason.RANK_KILLED, "rank 3 was killed by signal 9")
STUCK = seen(Cause.HANG, Reason.PROGRESS_DEADLINE_EXCEEDED, "no rank has made progress for 60 s")
BUG = seen(Cause.USER_ERROR, Reason.PYTHON_ERROR, "ValueError: bad batch 17 at 0x7f00")


def past(
    cause: Cause | None,
    message: str = "",
    *,
    reason: str = Reason.PYTHON_ERROR,
    hours_ago: float = 0.5,
    start: int = 0,
    end: int = 0,
) -> Attempt:
    ended = format_time(NOW - timedelta(hours=hours_ago))
    return Attempt(
        number=1,
        start=ended,
        end=ended,
        cause=cause,
        reason=reason,
        message=message,
        start_step=start,
        end_step=end,
    )


def counted(attempts: Iterable[Attempt]) -> failure_window.Recent:
    """The failures of these attempts, each since the checkpoint that it went on from."""
    recent: failure_window.Recent = ()
    for attempt in attempts:
        if attempt.cause is not None and attempt.end is not None:
            saved = max(0, (attempt.end_step or 0) - attempt.lost_steps)
            recent = failure_window.add_failures(recent, attempt.cause.value, parse_time(attempt.end), saved)
    return recent


def history(*attempts: Attempt, checkpoint: int | None = None, start: int = 0, step: int = 0) -> History:
    running = Attempt(number=2, start=format_time(NOW), start_step=start)
    return History(
        now=NOW,
        created=NOW - timedelta(hours=2),
        nodes=2,
        step=step,
        checkpoint_step=checkpoint,
        stepped=True,
        attempts=(*attempts, running),
        recent=counted(attempts),
    )


@pytest.mark.parametrize(
    ("failure", "before", "action", "reason"),
    [
        pytest.param(BUG, history(), FailureAction.RESTART, Reason.PYTHON_ERROR, id="first-user-error"),
        pytest.param(
            BUG,
            history(past(Cause.USER_ERROR, "ValueError: bad batch 99 at 0x7fff")),
            FailureAction.FAIL,
            Reason.PYTHON_ERROR,
            id="same-user-error-but-for-numbers",
        ),
        pytest.param(
            BUG,
            history(past(Cause.USER_ERROR, "KeyError: 'x'")),
            FailureAction.RESTART,
            Reason.PYTHON_ERROR,
            id="another-user-error",
        ),
        pytest.param(
            BUG,
            history(past(Cause.USER_ERROR, BUG.report.message, end=150), checkpoint=200, start=100),
            FailureAction.RESTART,
            Reason.PYTHON_ERROR,
            id="same-user-error-after-a-checkpoint",
        ),
        pytest.param(
            BUG,
            history(*(past(Cause.USER_ERROR, name) for name in "abc"), checkpoint=200, start=100),
            FailureAction.FAIL,
            Reason.RESTART_LIMIT_EXCEEDED,
            id="fourth-user-error-with-progress",
        ),
        pytest.param(
            seen(Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, "CUDA out of memory"),
            history(),
            FailureAction.RESTART,
            Reason.OUT_OF_MEMORY,
            id="first-out-of-memory",
        ),
        pytest.param(
            seen(Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, "CUDA out of memory"),
            history(past(Cause.OUT_OF_MEMORY)),
            FailureAction.FAIL,
            Reason.RESTART_LIMIT_EXCEEDED,
            id="second-out-of-memory",
        ),
        pytest.param(
            seen(Cause.NODE_LOST, Reason.AGENT_LOST, "silent"),
            history(*(past(Cause.NODE_LOST) for _ in range(20))),
            FailureAction.RESTART,
            Reason.AGENT_LOST,
            id="lost-nodes-are-unlimited",
        ),
        pytest.param(
            BUG,
            history(past(Cause.USER_ERROR, BUG.report.message, end=130), checkpoint=100, start=130, step=130),
            FailureAction.FAIL,
            Reason.PYTHON_ERROR,
            id="same-user-error-at-the-same-step-from-memory",
        ),
        pytest.param(
            BUG,
            history(past(Cause.USER_ERROR, BUG.report.message, end=130), checkpoint=100, start=130, step=290),
            FailureAction.RESTART,
            Reason.PYTHON_ERROR,
            id="same-user-error-further-on",
        ),
        pytest.param(
            STUCK,
            history(*(past(Cause.HANG) for _ in range(3))),
            FailureAction.FAIL,
            "NoProgress",
            id="three-fruitless-restarts",
        ),
        pytest.param(
            STUCK,
            history(*(past(Cause.HANG, start=step) for step in (0, 120, 120)), checkpoint=100, start=120),
            FailureAction.RESTART,
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            id="two-fruitless-restarts-after-one-from-memory",
        ),
        pytest.param(
            STUCK,
            history(*(past(Cause.HANG, start=step) for step in (0, 110, 120)), start=130),
            FailureAction.RESTART,
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            id="each-restart-began-later-from-memory",
        ),
        pytest.param(
            STUCK,
            history(*(past(Cause.HANG, start=step) for step in (0, 100, 200)), checkpoint=300, start=300),
            FailureAction.RESTART,
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            id="each-restart-began-later-from-a-checkpoint",
        ),
        pytest.param(
            KILLED,
            history(*(past(Cause.COMMUNICATION, start=step) for step in (0, 110, 120)), start=130),
            FailureAction.RESTART,
            Reason.RANK_KILLED,
            id="four-killed-ranks-between-two-checkpoints",
        ),
        pytest.param(
            KILLED,
            history(*(past(Cause.COMMUNICATION) for _ in range(20))),
            FailureAction.RESTART,
            Reason.RANK_KILLED,
            id="killed-ranks-are-unlimited",
        ),
        pytest.param(
            seen(Cause.NODE_LOST, Reason.AGENT_LOST, "silent"),
            history(*(past(Cause.COMMUNICATION) for _ in range(3))),
            FailureAction.RESTART,
            Reason.AGENT_LOST,
            id="a-lost-node-is-no-lack-of-progress",
        ),
        pytest.param(
            seen(Cause.IMAGE_OR_CONFIG, Reason.DATA_CORRUPT, "shard 3: checksum"),
            history(checkpoint=500),
            FailureAction.FAIL,
            Reason.DATA_CORRUPT,
            id="corrupt-data-even-late",
        ),
        pytest.param(
            seen(Cause.IMAGE_OR_CONFIG, Reason.ERR_IMAGE_PULL, "manifest unknown"),
            history(checkpoint=500),
            FailureAction.RESTART,
            Reason.ERR_IMAGE_PULL,
            id="an-image-that-one-node-lacks-is-tried-elsewhere",
        ),
        pytest.param(
            seen(Cause.IMAGE_OR_CONFIG, Reason.CONTAINER_CANNOT_RUN, "exit code 127"),
            history(*(past(Cause.IMAGE_OR_CONFIG) for _ in range(10)), checkpoint=500),
            FailureAction.FAIL,
            Reason.RESTART_LIMIT_EXCEEDED,
            id="an-image-that-ten-nodes-lack",
        ),
        pytest.param(
            seen(Cause.IMAGE_OR_CONFIG, Reason.NODE_MISCONFIGURED, "RLIMIT_MEMLOCK is 65536 bytes"),
            replace(history(), stepped=False),
            FailureAction.FAIL,
            Reason.NODE_MISCONFIGURED,
            id="a-node-without-locked-memory-before-the-first-step",
        ),
        pytest.param(
            seen(Cause.IMAGE_OR_CONFIG, Reason.NODE_MISCONFIGURED, "RLIMIT_MEMLOCK is 65536 bytes"),
            history(*(past(Cause.IMAGE_OR_CONFIG) for _ in range(9)), checkpoint=500),
            FailureAction.RESTART,
            Reason.NODE_MISCONFIGURED,
            id="a-node-without-locked-memory-is-left-by-a-run-that-trained",
        ),
        pytest.param(
            seen(Cause.STORAGE, Reason.STORAGE_FULL, "No space left on device"),
            history(),
            FailureAction.FAIL,
            Reason.STORAGE_FULL,
            id="a-full-volume-before-the-first-checkpoint",
        ),
        pytest.param(
            seen(Cause.STORAGE, Reason.STORAGE_FULL, "No space left on device"),
            history(checkpoint=100),
            FailureAction.RESTART,
            Reason.STORAGE_FULL,
            id="a-full-volume-with-a-checkpoint",
        ),
        pytest.param(
            seen(Cause.NUMERICAL_DIVERGENCE, "NotFinite", "loss is nan"),
            history(*(past(Cause.NUMERICAL_DIVERGENCE) for _ in range(2))),
            FailureAction.FAIL,
            Reason.RESTART_LIMIT_EXCEEDED,
            id="third-divergence",
        ),
    ],
)
def test_next_action(failure: RunFailure, before: History, action: FailureAction, reason: str) -> None:
    decision = next_action({}, before, failure)
    assert (decision.action, decision.reason) == (action, reason)


@pytest.mark.parametrize(
    ("limits", "cause", "action"),
    [
        pytest.param({"NodeLost": 0}, Cause.NODE_LOST, FailureAction.FAIL, id="a-limit-where-there-was-none"),
        pytest.param({"Communication": 4}, Cause.COMMUNICATION, FailureAction.FAIL, id="of-what-has-none"),
        pytest.param({"Hang": 6}, Cause.HANG, FailureAction.RESTART, id="a-larger-one"),
    ],
)
def test_limits_of_the_run_win(limits: dict[str, int], cause: Cause, action: FailureAction) -> None:
    attempts = [past(cause, start=step, end=step + 100) for step in range(0, 500, 100)]
    before = history(*attempts, checkpoint=500, start=500)
    assert next_action(limits, before, seen(cause, "r", "m")).action is action


@pytest.mark.parametrize(
    ("reason", "message", "hint"),
    [
        pytest.param(Reason.OUT_OF_MEMORY, "killed", "training.microBatchSize", id="memory"),
        pytest.param(Reason.OUT_OF_MEMORY, "out of shared memory", "network.sharedMemoryGiB", id="dev-shm"),
        pytest.param("Evicted", "The node was low", "resources of the ComputeProfile", id="evicted"),
    ],
)
def test_an_out_of_memory_end_says_what_would_help(reason: str, message: str, hint: str) -> None:
    failure = seen(Cause.OUT_OF_MEMORY, reason, message)
    told = next_action({}, history(past(Cause.OUT_OF_MEMORY)), failure).message
    assert told.startswith(f"OutOfMemory 2 times, 1 allowed; last: {message}; ")
    assert hint in told


IBVERBS = "NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory"
XID = "NVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus"


@pytest.mark.parametrize(
    ("failure", "trained", "said"),
    [
        pytest.param(
            seen(Cause.IMAGE_OR_CONFIG, Reason.NODE_MISCONFIGURED, IBVERBS),
            False,
            f"ImageOrConfig once, 0 allowed; last: {IBVERBS}; set LimitMEMLOCK=infinity ",
            id="that-ends-the-run",
        ),
        pytest.param(
            seen(Cause.IMAGE_OR_CONFIG, Reason.NODE_MISCONFIGURED, IBVERBS),
            True,
            f"{IBVERBS}; set LimitMEMLOCK=infinity ",
            id="that-is-left",
        ),
        pytest.param(
            seen(Cause.NODE_LOST, Reason.GPU_ERROR, f"{XID}\n"), True, f"{XID}; drain the node", id="gpu"
        ),
        pytest.param(
            seen(Cause.USER_ERROR, Reason.PYTHON_ERROR, f"ValueError: {XID}"),
            True,
            f"ValueError: {XID}",
            id="a-users-own-words",
        ),
    ],
)
def test_a_failure_of_a_machine_says_what_would_help(failure: RunFailure, trained: bool, said: str) -> None:
    message = next_action({}, replace(history(), stepped=trained), failure).message
    assert message.startswith(said)
    assert (message == said) == (failure.report.cause is Cause.USER_ERROR)


# Whether restarts by a cause are the run's own doing, which end it where no progress comes of them.
OWN_DOING = {
    Cause.USER_ERROR: True,
    Cause.OUT_OF_MEMORY: True,
    Cause.COMMUNICATION: False,
    Cause.NODE_LOST: False,
    Cause.PREEMPTED: False,
    Cause.HANG: True,
    Cause.NO_PROGRESS: False,
    Cause.STORAGE: False,
    Cause.NUMERICAL_DIVERGENCE: False,
    Cause.IMAGE_OR_CONFIG: False,
    Cause.STRAGGLER_SUSPECTED: False,
}


@pytest.mark.parametrize("cause", Cause)
def test_restarts_that_bring_no_progress_end_the_run_where_they_are_its_own_doing(cause: Cause) -> None:
    before = history(*(past(cause, message) for message in ("first", "second", "third")))
    decision = next_action({cause: 100, Cause.NO_PROGRESS: 1}, before, seen(cause, "Reason", "fourth"))
    assert (decision.cause is Cause.NO_PROGRESS) == (OWN_DOING[cause] or cause is Cause.NO_PROGRESS)


def test_every_cause_has_a_restart_limit() -> None:
    assert set(DEFAULT_RESTART_LIMITS) == set(Cause)


@pytest.mark.parametrize("cause", sorted(INFRASTRUCTURE))
def test_infrastructure_never_ends_a_run_by_itself(cause: Cause) -> None:
    before = history(*(past(cause) for _ in range(1000)))
    assert next_action({}, before, seen(cause, "Reason", "again")).action is FailureAction.RESTART
