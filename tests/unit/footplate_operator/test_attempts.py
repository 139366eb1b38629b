"""The attempts of a run: what counts as one interruption, and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from footplate_contracts.names import Cause, Reason
from footplate_contracts.v1alpha1.status import ATTEMPT_LIMIT, Attempt, Condition, TrainingRunStatus
from footplate_operator.trainingrun.policies.failure import Verdict
from footplate_operator.trainingrun.status import attempts
from footplate_operator.trainingrun.status.attempts import AttemptContext, AttemptLog
from footplate_operator.trainingrun.status.evidence import Interruption
from footplate_operator.trainingrun.status.limit import STATUS_LIMIT, bytes_of, fit

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
CONTEXT = AttemptContext(
    now=NOW,
    created=NOW - timedelta(minutes=5),
    budgets={},
    step=37,
    checkpoint_step=30,
    checkpoint_every=10,
    nodes=2,
    stepped=True,
)


def training(generation: str = "1.1") -> AttemptLog:
    return attempts.sealed(attempts.begin(AttemptLog(), CONTEXT), generation, 0, 2)


def failure(cause: Cause, generation: str, *, hearsay: bool = False, message: str = "why") -> Interruption:
    return Interruption(
        cause=cause,
        reason=Reason.POD_FAILED if hearsay else Reason.PYTHON_ERROR,
        message=message,
        time=NOW,
        generation=generation,
        rank=None if hearsay else 3,
        hearsay=hearsay,
    )


def peer_lost(generation: str) -> Interruption:
    return replace(failure(Cause.COMMUNICATION, generation), reason=Reason.PEER_LOST)


def causes(log: AttemptLog) -> list[Cause | None]:
    return [attempt.cause for attempt in log.attempts]


def test_an_interruption_closes_one_attempt_and_opens_the_next() -> None:
    log, action = attempts.interrupt(training(), CONTEXT, failure(Cause.NODE_LOST, "1.1"))
    assert action is not None and action.verdict is Verdict.RESTART
    first, second = log.attempts
    assert (first.cause, first.end_step, first.lost_steps, first.generation) == (
        Cause.NODE_LOST,
        37,
        7,
        "1.1",
    )
    assert (second.number, second.end, second.start_step, second.generation) == (2, None, 30, "")
    assert (log.restarts, dict(log.failures)) == (1, {"NodeLost": 1})


@pytest.mark.parametrize(
    ("told", "expected", "failures"),
    [
        pytest.param(
            [failure(Cause.NODE_LOST, "1.1"), failure(Cause.NODE_LOST, "1.1", hearsay=True)],
            [Cause.NODE_LOST, None],
            {"NodeLost": 1},
            id="the-pod-of-a-loss-that-is-known",
        ),
        pytest.param(
            [failure(Cause.NODE_LOST, "1.1", hearsay=True), failure(Cause.USER_ERROR, "1.1")],
            [Cause.USER_ERROR, None],
            {"UserError": 1},
            id="the-better-witness-comes-second",
        ),
        pytest.param(
            [failure(Cause.USER_ERROR, "1.1"), failure(Cause.NODE_LOST, "1.1", hearsay=True)],
            [Cause.USER_ERROR, None],
            {"UserError": 1},
            id="the-better-witness-comes-first",
        ),
        pytest.param(
            [peer_lost("1.1"), failure(Cause.NODE_LOST, "1.1", hearsay=True)],
            [Cause.NODE_LOST, None],
            {"NodeLost": 1},
            id="a-lost-pod-explains-a-lost-peer",
        ),
        pytest.param(
            [failure(Cause.NODE_LOST, "1.1", hearsay=True), peer_lost("1.1")],
            [Cause.NODE_LOST, None],
            {"NodeLost": 1},
            id="a-lost-peer-explains-nothing",
        ),
        pytest.param(
            [failure(Cause.NODE_LOST, "", hearsay=True), failure(Cause.NODE_LOST, "", hearsay=True)],
            [Cause.NODE_LOST, Cause.NODE_LOST, None],
            {"NodeLost": 2},
            id="outside-a-generation-each-is-its-own",
        ),
    ],
)
def test_what_ended_one_generation_is_one_interruption(
    told: list[Interruption], expected: list[Cause | None], failures: dict[str, int]
) -> None:
    log = training() if told[0].generation else attempts.begin(AttemptLog(), CONTEXT)
    for each in told:
        log, _ = attempts.interrupt(log, CONTEXT, each)
    assert causes(log) == expected
    assert dict(log.failures) == failures
    assert log.restarts == len(expected) - 1


def test_the_next_generation_is_another_interruption() -> None:
    log, _ = attempts.interrupt(training(), CONTEXT, failure(Cause.NODE_LOST, "1.1"))
    log = attempts.sealed(log, "1.2", 30, 2)
    log, _ = attempts.interrupt(log, CONTEXT, failure(Cause.COMMUNICATION, "1.2"))
    assert causes(log) == [Cause.NODE_LOST, Cause.COMMUNICATION, None]


def test_a_generation_that_took_over_unexplained_is_explained_later() -> None:
    log = attempts.renewed(training(), CONTEXT, "2.1", 2)
    assert (causes(log), log.restarts) == ([None, None], 1)
    assert log.attempts[0].message == "generation 2.1 took over from 1.1"
    log = attempts.sealed(log, "2.1", 30, 2)
    log, _ = attempts.interrupt(log, CONTEXT, failure(Cause.COMMUNICATION, "1.1"))
    assert (causes(log), log.restarts) == ([Cause.COMMUNICATION, None], 1)


def test_another_size_is_no_interruption() -> None:
    log = attempts.renewed(training(), CONTEXT, "1.2", 3)
    assert (causes(log), log.restarts) == ([None, None], 0)
    assert (log.attempts[0].reason, log.attempts[0].message) == (
        "Resized",
        "3 nodes went on instead of 2",
    )


def test_a_failure_that_ends_the_run_opens_nothing() -> None:
    hopeless = Interruption(Cause.IMAGE_OR_CONFIG, Reason.DATA_MISSING, "no such folder", NOW, "1.1")
    log, action = attempts.interrupt(training(), CONTEXT, hopeless)
    assert action is not None and action.verdict is Verdict.FAIL
    assert log.open is None and log.restarts == 0


def test_only_the_newest_attempts_are_listed() -> None:
    log = training()
    for number in range(1, 30):
        log, _ = attempts.interrupt(log, CONTEXT, failure(Cause.NODE_LOST, f"1.{number}"))
        log = attempts.sealed(log, f"1.{number + 1}", 30, 2)
    assert len(log.attempts) == ATTEMPT_LIMIT
    assert log.attempts[-1].number == 30
    assert log.restarts == dict(log.failures)["NodeLost"] == 29


@pytest.mark.parametrize(
    "letter", [pytest.param("x", id="ascii"), pytest.param("字", id="three-bytes-a-letter")]
)
def test_a_status_fits_whatever_happened(letter: str) -> None:
    attempt = Attempt(
        number=1,
        start="2026-01-31T12:00:00.000Z",
        end="2026-01-31T12:00:00.000Z",
        generation="1.1",
        cause=Cause.USER_ERROR,
        reason=Reason.PYTHON_ERROR,
        node="n" * 253,
        message=letter * 1024,
    )
    conditions = [
        Condition(
            type=f"T{number}",
            status="False",
            last_transition_time="2026-01-31T12:00:00.000Z",
            reason="r",
            message=letter * 1024,
        )
        for number in range(5)
    ]
    status = fit(TrainingRunStatus(attempts=[attempt] * ATTEMPT_LIMIT, conditions=conditions))
    assert bytes_of(status) <= STATUS_LIMIT
    assert len(status.attempts) == ATTEMPT_LIMIT


def test_a_small_status_is_not_cut() -> None:
    log, _ = attempts.interrupt(training(), CONTEXT, failure(Cause.USER_ERROR, "1.1", message="m" * 1000))
    status = TrainingRunStatus(attempts=list(log.attempts))
    assert fit(status) == status


def test_a_closed_attempt_is_not_reopened_by_a_suspension() -> None:
    log = attempts.end(training(), replace(CONTEXT, step=40), Reason.SUSPENDED, "the checkpoint is durable")
    assert log.open is None
    assert (log.attempts[0].reason, log.attempts[0].cause, log.attempts[0].end_step) == (
        "Suspended",
        None,
        40,
    )
    assert attempts.end(log, CONTEXT, Reason.FINISHED) == log
