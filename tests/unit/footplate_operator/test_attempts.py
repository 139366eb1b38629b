"""The attempts of a run: what counts as one interruption, and what is remembered of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Reason
from footplate_contracts.v1alpha1.status import (
    ATTEMPT_LIMIT,
    RECENT_LIMIT,
    Attempt,
    CheckpointStatus,
    Condition,
    PromotedCheckpoint,
    RecentFailures,
    RetainedCheckpointStatus,
    TrainingRunStatus,
)
from footplate_contracts.v1alpha1.types import MOST_PROMOTED, MOST_STANDING
from footplate_operator.trainingrun.history import History
from footplate_operator.trainingrun.policies.failure import FailureAction, FailureSource, RunFailure
from footplate_operator.trainingrun.status import attempts
from footplate_operator.trainingrun.status.failures import FailureUpdate
from footplate_operator.trainingrun.status.report import STATUS_LIMIT, already_trained, bytes_of, fit

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NEW = History(
    now=NOW,
    created=NOW - timedelta(minutes=5),
    nodes=2,
    step=37,
    checkpoint_step=30,
    stepped=True,
    incarnation=4,
)


def training(generation: str = "1.1") -> History:
    return attempts.with_generation(attempts.begin(NEW), generation, 0, 2)


def failure(
    cause: Cause,
    generation: str,
    *,
    source: FailureSource = FailureSource.COORDINATOR,
    reason: Reason = Reason.PYTHON_ERROR,
    message: str = "why",
) -> RunFailure:
    rank = 3 if source is FailureSource.COORDINATOR else None
    report = FailureReport(cause=cause, reason=reason, message=message, rank=rank, time=NOW.timestamp())
    return RunFailure(report, generation, source=source)


def pod_failed(cause: Cause, generation: str) -> RunFailure:
    return failure(cause, generation, source=FailureSource.KUBERNETES, reason=Reason.POD_FAILED)


def peer_lost(generation: str) -> RunFailure:
    return failure(Cause.COMMUNICATION, generation, reason=Reason.PEER_LOST)


def causes(history: History) -> list[Cause | None]:
    return [attempt.cause for attempt in history.attempts]


def test_an_interruption_closes_one_attempt_and_opens_the_next() -> None:
    history, decision = attempts.interrupt(training(), failure(Cause.NODE_LOST, "1.1"), {})
    assert decision is not None and decision.action is FailureAction.RESTART
    first, second = history.attempts
    assert (first.cause, first.end_step, first.lost_steps, first.generation) == (
        Cause.NODE_LOST,
        37,
        7,
        "1.1",
    )
    assert (second.number, second.end, second.start_step, second.generation) == (2, None, 30, "")
    assert (history.restarts, history.failures) == (1, {"NodeLost": 1})


@pytest.mark.parametrize(
    ("told", "expected", "failures"),
    [
        pytest.param(
            [failure(Cause.NODE_LOST, "1.1"), pod_failed(Cause.NODE_LOST, "1.1")],
            [Cause.NODE_LOST, None],
            {"NodeLost": 1},
            id="the-pod-of-a-loss-that-is-known",
        ),
        pytest.param(
            [pod_failed(Cause.NODE_LOST, "1.1"), failure(Cause.USER_ERROR, "1.1")],
            [Cause.USER_ERROR, None],
            {"UserError": 1},
            id="the-better-witness-comes-second",
        ),
        pytest.param(
            [failure(Cause.USER_ERROR, "1.1"), pod_failed(Cause.NODE_LOST, "1.1")],
            [Cause.USER_ERROR, None],
            {"UserError": 1},
            id="the-better-witness-comes-first",
        ),
        pytest.param(
            [peer_lost("1.1"), pod_failed(Cause.NODE_LOST, "1.1")],
            [Cause.NODE_LOST, None],
            {"NodeLost": 1},
            id="a-lost-pod-explains-a-lost-peer",
        ),
        pytest.param(
            [
                failure(Cause.COMMUNICATION, "1.1", reason=Reason.RANK_KILLED),
                pod_failed(Cause.NODE_LOST, "1.1"),
            ],
            [Cause.COMMUNICATION, None],
            {"Communication": 1},
            id="a-killed-rank-is-no-echo",
        ),
        pytest.param(
            [pod_failed(Cause.NODE_LOST, "1.1"), peer_lost("1.1")],
            [Cause.NODE_LOST, None],
            {"NodeLost": 1},
            id="a-lost-peer-explains-nothing",
        ),
        pytest.param(
            [pod_failed(Cause.NODE_LOST, ""), pod_failed(Cause.NODE_LOST, "")],
            [Cause.NODE_LOST, Cause.NODE_LOST, None],
            {"NodeLost": 2},
            id="outside-a-generation-each-is-its-own",
        ),
    ],
)
def test_what_ended_one_generation_is_one_interruption(
    told: list[RunFailure], expected: list[Cause | None], failures: dict[str, int]
) -> None:
    history = training() if told[0].generation else attempts.begin(NEW)
    for seen in told:
        history, _ = attempts.interrupt(history, seen, {})
    assert causes(history) == expected
    assert history.failures == failures == counted(history)
    assert history.restarts == len(expected) - 1


def counted(history: History) -> dict[str, int]:
    """What restart limits count: of a young run all of its failures."""
    totals = sum((Counter(part.failures) for part in history.recent), Counter())
    return dict(sorted(totals.items()))


EARLIER, LATER = 4, 5  # incarnations


def _of_an_earlier_release(history: History) -> History:
    last = history.attempts[-1].model_copy(update={"incarnation": None})
    return replace(history, attempts=(*history.attempts[:-1], last))


RESUMED = attempts.end(attempts.begin(NEW), Reason.SUSPENDED)


@pytest.mark.parametrize(
    ("before", "incarnations", "generations"),
    [
        pytest.param(training(), [EARLIER], ["1.1", ""], id="what-trains"),
        pytest.param(training(), [EARLIER, None], ["1.1", ""], id="both-pods-of-it-are-one-interruption"),
        pytest.param(training(), [EARLIER, LATER], ["1.1", "", ""], id="one-made-since-had-joined-nothing"),
        pytest.param(
            attempts.begin(replace(RESUMED, trained="1.7")),
            [EARLIER],
            ["", "1.7", ""],
            id="what-trained-last",
        ),
        pytest.param(attempts.begin(RESUMED), [EARLIER], ["", "", ""], id="nothing-has-trained"),
        pytest.param(
            attempts.begin(replace(NEW, trained="1.7")), [0], ["", ""], id="the-first-attempt-made-all"
        ),
        pytest.param(
            _of_an_earlier_release(attempts.begin(replace(RESUMED, trained="1.7"))),
            [EARLIER],
            ["", "", ""],
            id="an-earlier-release-did-not-note-it",
        ),
    ],
)
def test_a_lost_pod_ended_the_generation_that_it_was_part_of(
    before: History, incarnations: list[int | None], generations: list[str]
) -> None:
    lost = [
        replace(pod_failed(Cause.NODE_LOST, ""), generation=None, incarnation=number)
        for number in incarnations
    ]
    history, _ = attempts.record(before, FailureUpdate(tuple(lost), (), ""), CoordinatorState.empty(), {})
    assert [attempt.generation for attempt in history.attempts] == generations


@pytest.mark.parametrize(
    ("node", "counted_after", "generation"),
    [
        pytest.param("node-3", {"OutOfMemory": 1}, "1.1", id="the-same-place"),
        pytest.param("node-4", {"NodeLost": 1, "OutOfMemory": 1}, "", id="another-place"),
    ],
)
def test_an_end_that_kubernetes_told_of_before_its_generation_was_known_counts_once(
    node: str, counted_after: dict[str, int], generation: str
) -> None:
    told = replace(pod_failed(Cause.OUT_OF_MEMORY, ""), node="node-3", incarnation=1)
    history, _ = attempts.interrupt(attempts.begin(NEW), told, {})
    heard = replace(failure(Cause.NODE_LOST, "1.1"), node=node)
    seen = FailureUpdate(new=(heard,), explanations=(), counted="1.1")
    history, _ = attempts.record(history, seen, CoordinatorState.empty(), {})
    assert history.failures == counted_after
    assert history.closed[0].generation == generation


def test_an_explanation_of_an_end_that_is_not_written_down_changes_nothing() -> None:
    told = FailureUpdate((), (pod_failed(Cause.OUT_OF_MEMORY, "1.1"),), "")
    assert attempts.record(training(), told, CoordinatorState.empty(), {}) == (training(), None)


def test_the_next_generation_is_another_interruption() -> None:
    history, _ = attempts.interrupt(training(), failure(Cause.NODE_LOST, "1.1"), {})
    history = attempts.with_generation(history, "1.2", 30, 2)
    history, _ = attempts.interrupt(history, failure(Cause.COMMUNICATION, "1.2"), {})
    assert causes(history) == [Cause.NODE_LOST, Cause.COMMUNICATION, None]


def test_a_generation_that_took_over_unexplained_is_explained_later() -> None:
    history = attempts.roll_generation(training(), "2.1", 2)
    assert (causes(history), history.restarts) == ([None, None], 1)
    assert history.attempts[0].message == "generation 2.1 replaced 1.1"
    history = attempts.with_generation(history, "2.1", 30, 2)
    history, _ = attempts.interrupt(history, failure(Cause.COMMUNICATION, "1.1"), {})
    assert (causes(history), history.restarts) == ([Cause.COMMUNICATION, None], 1)


def test_another_size_is_no_interruption() -> None:
    history = attempts.roll_generation(training(), "1.2", 3)
    assert (causes(history), history.restarts) == ([None, None], 0)
    assert (history.attempts[0].reason, history.attempts[0].message) == (
        "Resized",
        "continued on 3 nodes instead of 2",
    )


def test_a_failure_that_ends_the_run_opens_nothing() -> None:
    hopeless = failure(Cause.IMAGE_OR_CONFIG, "1.1", reason=Reason.DATA_MISSING)
    history, decision = attempts.interrupt(training(), hopeless, {})
    assert decision is not None and decision.action is FailureAction.FAIL
    assert history.open is None and history.restarts == 0


def test_only_the_newest_attempts_are_listed() -> None:
    history = training()
    for number in range(1, 30):
        history, _ = attempts.interrupt(history, failure(Cause.NODE_LOST, f"1.{number}"), {})
        history = attempts.with_generation(history, f"1.{number + 1}", 30, 2)
    assert len(history.attempts) == ATTEMPT_LIMIT
    assert history.attempts[-1].number == 30
    assert history.restarts == history.failures["NodeLost"] == 29


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
    status = TrainingRunStatus(attempts=[attempt] * ATTEMPT_LIMIT, conditions=conditions)
    assert bytes_of(fit(status)) <= STATUS_LIMIT
    assert len(fit(status).attempts) == ATTEMPT_LIMIT
    counts = dict.fromkeys(Cause, 1_000)
    recent = [RecentFailures(hour=attempt.start, failures=counts)] * RECENT_LIMIT
    whole = fit(status.update_internal(recent_failures=recent))
    assert bytes_of(whole) <= STATUS_LIMIT
    assert whole.internal.recent_failures == recent and whole.attempts
    kept = [
        RetainedCheckpointStatus(
            step=10**15 - n, generation=f"{10**15}.{n}", digest="a" * 64, validation_loss=1 / 3
        )
        for n in range(MOST_STANDING)
    ]
    marks = [
        PromotedCheckpoint(name=f"{'n' * 61}{n}", step=kept[n].step, directory="d" * 64, digest="a" * 64)
        for n in range(MOST_PROMOTED)
    ]
    checkpoint = CheckpointStatus(
        latest_step=kept[0].step, uri="u" * 1088, last_committed_time=attempt.start, kept=kept, promoted=marks
    )
    full = fit(status.model_copy(update={"checkpoint": checkpoint}).update_internal(recent_failures=recent))
    assert bytes_of(full) <= STATUS_LIMIT
    assert full.checkpoint is not None and full.checkpoint.promoted == marks
    assert full.checkpoint.kept == kept[:MOST_PROMOTED], "those that bear a mark, the newest among them"


def test_a_small_status_is_not_cut() -> None:
    history, _ = attempts.interrupt(training(), failure(Cause.USER_ERROR, "1.1", message="m" * 1000), {})
    status = TrainingRunStatus(attempts=list(history.attempts))
    assert fit(status) == status


def test_a_closed_attempt_is_not_reopened_by_a_suspension() -> None:
    history = attempts.end(replace(training(), step=40), Reason.SUSPENDED, "the checkpoint is durable")
    assert history.open is None
    assert (history.attempts[0].reason, history.attempts[0].cause, history.attempts[0].end_step) == (
        "Suspended",
        None,
        40,
    )
    assert attempts.end(history, Reason.FINISHED) == history


@pytest.mark.parametrize(
    ("began", "attempts_of", "told", "nothing"),
    [
        pytest.param(100, [(100, None)], True, True, id="found-it-and-told-of-it"),
        pytest.param(100, [(0, 0), (100, None)], True, True, id="failed-before-it-loaded"),
        pytest.param(100, [(100, None)], False, True, id="ranks-of-an-earlier-release-tell-of-none"),
        pytest.param(100, [(0, 100), (100, None)], True, False, id="interrupted-after-its-last-checkpoint"),
        pytest.param(90, [(90, None)], True, False, id="trained-the-rest"),
        pytest.param(None, [(0, None)], True, False, id="unheard"),
    ],
)
def test_whether_a_run_that_finished_had_anything_to_train(
    began: int | None, attempts_of: list[tuple[int, int | None]], told: bool, nothing: bool
) -> None:
    time = "2026-01-31T12:00:00Z"
    known = [
        Attempt(number=number, start=time, start_step=start, end_step=end)
        for number, (start, end) in enumerate(attempts_of, start=1)
    ]
    checkpoint = (
        CheckpointStatus(latest_step=100, uri="/base/step-100.e3g1", last_committed_time=time)
        if told
        else None
    )
    state = CoordinatorState(version=1, epoch=1, state=RunState.FINISHED, start_step=began)
    assert already_trained(state, TrainingRunStatus(checkpoint=checkpoint), known, 100) is nothing
