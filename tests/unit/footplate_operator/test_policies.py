"""The small policies: suspension, time to live, startup, back-off, throttling, phases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import ConditionType, Phase
from footplate_contracts.reports import GenerationId
from footplate_contracts.v1alpha1.status import (
    Condition,
    ProgressStatus,
    TimeStatus,
    TrainingRunStatus,
)
from footplate_operator.runtime import throttle
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.throttle import StatusChange
from footplate_operator.trainingrun.observation import (
    BudgetAssessment,
    BudgetLevel,
    Observed,
    PodView,
    RecordingStatus,
)
from footplate_operator.trainingrun.policies import backoff, deletion, startup, suspension, ttl
from footplate_operator.trainingrun.policies.deletion import LEAST_ASKED_SECONDS, Deletion
from footplate_operator.trainingrun.policies.suspension import SuspensionStep
from footplate_operator.trainingrun.status.phase import active_phase
from footplate_operator.trainingrun.status.report import compare
from tests.support.operator_runs import run

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SILENT = CoordinatorState.empty()


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def dead(made: datetime, ended: datetime) -> PodView:
    lived = (ended - made).total_seconds()
    return PodView(
        name="p", uid="u", role="worker", created=made, phase="Failed", lived=lived, ended_since=ended
    )


@pytest.mark.parametrize(
    ("training", "acknowledged", "waited", "step"),
    [
        pytest.param(False, False, 0, SuspensionStep.RELEASE, id="nothing-to-save"),
        pytest.param(True, False, 0, SuspensionStep.COMMAND, id="ask"),
        pytest.param(True, False, 74, SuspensionStep.COMMAND, id="ask-again-within-deadline-and-allowance"),
        pytest.param(True, False, 76, SuspensionStep.GIVE_UP, id="give-up"),
        pytest.param(True, True, 3, SuspensionStep.RELEASE, id="acknowledged"),
        pytest.param(True, True, 500, SuspensionStep.RELEASE, id="acknowledged-late"),
    ],
)
def test_suspension(training: bool, acknowledged: bool, waited: float, step: SuspensionStep) -> None:
    assert suspension.next_step(training, acknowledged, waited, deadline=60) is step


def spending(exceeded: str) -> BudgetAssessment:
    """Return the assessment of a budget, as far as it suspends a run."""
    condition = NewCondition(ConditionType.WITHIN_BUDGET, not exceeded, "x", "")
    return BudgetAssessment(BudgetLevel.EXCEEDED if exceeded else BudgetLevel.WITHIN, condition, exceeded)


@pytest.mark.parametrize(
    ("suspend", "exceeded", "asked"),
    [
        pytest.param(False, "", None, id="nobody-asks"),
        pytest.param(True, "", ("Suspended", "spec.suspend is true"), id="by-hand"),
        pytest.param(False, "it is spent", ("BudgetExceeded", "it is spent"), id="budget"),
        pytest.param(True, "it is spent", ("Suspended", "spec.suspend is true"), id="both"),
    ],
)
def test_who_asks_for_a_suspension(suspend: bool, exceeded: str, asked: tuple[str, str] | None) -> None:
    found = suspension.find_suspension(run(suspend=suspend), spending(exceeded))
    assert (None if found is None else (found.reason, found.message)) == asked


@pytest.mark.parametrize(("exceeded", "fails"), [("", True), ("it is spent", False)])
def test_a_run_that_is_not_to_start_does_not_fail_to_start_in_time(exceeded: str, fails: bool) -> None:
    starting = TrainingRunStatus(phase=Phase.STARTING, last_transition_time="2026-01-30T12:00:00Z")
    late, observed = replace(run(), status=starting), Observed(spending=spending(exceeded))
    assert (startup.find_startup_failure(late, False, observed, None, None, "", NOW) is not None) is fails


@pytest.mark.parametrize(
    ("finished", "lifetime", "expired"),
    [
        pytest.param(59, 60, False, id="before"),
        pytest.param(60, 60, True, id="at"),
        pytest.param(0, 0, True, id="at-once"),
    ],
)
def test_ttl(finished: float, lifetime: int, expired: bool) -> None:
    assert ttl.is_expired(ago(finished), lifetime, NOW) is expired


HAS = RecordingStatus(known=True, asked_for=5)
LACKS = RecordingStatus(said="it does not have the run", asked_for=5)
ASKED_LONG = RecordingStatus(said="it does not answer", asked_for=LEAST_ASKED_SECONDS)
UNKNOWN = RecordingStatus()


@pytest.mark.parametrize(
    ("ended", "lifetime", "recorded", "expected"),
    [
        pytest.param(59, 60, None, Deletion(1), id="before-its-time"),
        pytest.param(59, 60, UNKNOWN, Deletion(1), id="nobody-is-asked-before"),
        pytest.param(60, 60, None, Deletion(0), id="no-api"),
        pytest.param(60, 60, HAS, Deletion(0), id="recorded"),
        pytest.param(60, 60, UNKNOWN, Deletion(3600, ask=True), id="not-known-yet"),
        pytest.param(60, 60, LACKS, Deletion(3600, ask=True), id="not-recorded"),
        pytest.param(3659, 60, ASKED_LONG, Deletion(1, ask=True), id="almost-an-hour-late"),
        pytest.param(3660, 60, ASKED_LONG, Deletion(0, unrecorded=True), id="an-hour-late"),
        pytest.param(9999, 60, HAS, Deletion(-9939), id="recorded-after-long"),
        pytest.param(9999, 60, UNKNOWN, Deletion(900, ask=True), id="an-operator-that-was-away"),
        pytest.param(9999, 60, LACKS, Deletion(895, ask=True), id="that-asks-for-a-while"),
    ],
)
def test_deletion(ended: float, lifetime: int, recorded: RecordingStatus | None, expected: Deletion) -> None:
    assert deletion.plan_deletion(ago(ended), lifetime, recorded, NOW) == expected
    assert expected.due is (expected.left <= 0)


@pytest.mark.parametrize(
    ("phase", "left"),
    [
        pytest.param(Phase.STARTING, 20, id="starting"),
        pytest.param(Phase.QUEUED, None, id="queued-waits-for-ever"),
        pytest.param(Phase.RESTARTING, None, id="restarting-has-trained-before"),
    ],
)
def test_startup_deadline(phase: Phase, left: float | None) -> None:
    assert startup.remaining(phase, ago(10), 30, NOW) == left


@pytest.mark.parametrize(
    ("pods", "wait"),
    [
        pytest.param([], 0, id="first"),
        pytest.param([dead(ago(2), ago(1))], 0, id="one-early-death"),
        pytest.param([dead(ago(9), ago(8)), dead(ago(2), ago(0))], 2, id="two"),
        pytest.param([dead(ago(9), ago(8)), dead(ago(5), ago(4)), dead(ago(1), ago(0))], 4, id="three"),
        pytest.param([dead(ago(900), ago(899)), dead(ago(2), ago(0))], 0, id="an-old-one-is-forgotten"),
        pytest.param([dead(ago(90), ago(8)), dead(ago(60), ago(0))], 0, id="long-lives"),
        pytest.param([dead(ago(1), ago(0)) for _ in range(20)], 60, id="at-most-a-minute"),
    ],
)
def test_backoff(pods: list[PodView], wait: float) -> None:
    assert backoff.not_before(pods, NOW) - NOW == timedelta(seconds=wait)


@pytest.mark.parametrize(
    ("live", "least", "most"),
    [
        pytest.param(1, 2.4, 3.6, id="alone"),
        pytest.param(50, 12, 18, id="fifty"),
        pytest.param(5000, 80, 120, id="five-thousand"),
    ],
)
def test_progress_interval(live: int, least: float, most: float) -> None:
    intervals = [throttle.progress_interval(live, f"uid-{number}") for number in range(100)]
    assert least <= min(intervals) < max(intervals) <= most


def _condition(message: str, status: str = "True") -> Condition:
    return Condition(
        type="Ready", status=status, last_transition_time="2026-01-31T12:00:00Z", reason="r", message=message
    )


@pytest.mark.parametrize(
    ("change", "worth"),
    [
        pytest.param(
            {"wall_seconds": TimeStatus(queued=5), "goodput": 0.5}, StatusChange.NOTHING, id="time-only"
        ),
        pytest.param({"progress": ProgressStatus(step=5)}, StatusChange.PROGRESS, id="a-step"),
        pytest.param({"conditions": [_condition("b")]}, StatusChange.PROGRESS, id="another-message"),
        pytest.param({"conditions": [_condition("a", "False")]}, StatusChange.STATE, id="condition"),
        pytest.param({"phase": Phase.FAILED}, StatusChange.STATE, id="phase"),
        pytest.param({"replicas": 2}, StatusChange.STATE, id="replicas"),
    ],
)
def test_what_a_status_is_worth(change: dict[str, object], worth: StatusChange) -> None:
    before = TrainingRunStatus(phase=Phase.RUNNING, conditions=[_condition("a")])
    assert compare(before, before.model_copy(update=change)) is worth


def _state(state: RunState, generation: str = "1.1") -> CoordinatorState:
    known = GenerationId.parse(generation) if generation else None
    return CoordinatorState(version=1, epoch=1, state=state, generation=known)


@pytest.mark.parametrize(
    ("before", "state", "broken", "current", "interrupted", "phase"),
    [
        pytest.param(None, SILENT, "", "", False, Phase.STARTING, id="begun"),
        pytest.param(
            Phase.STARTING, _state(RunState.GATHERING, ""), "", "", False, Phase.STARTING, id="gathering"
        ),
        pytest.param(
            Phase.STARTING, _state(RunState.LOADING), "", "1.1", False, Phase.STARTING, id="loading"
        ),
        pytest.param(
            Phase.STARTING, _state(RunState.TRAINING), "", "1.1", False, Phase.RUNNING, id="training"
        ),
        pytest.param(Phase.RUNNING, SILENT, "", "1.1", False, Phase.RUNNING, id="coordinator-silent"),
        pytest.param(Phase.RUNNING, SILENT, "1.1", "", True, Phase.RESTARTING, id="worker-gone-unseen"),
        pytest.param(
            Phase.RUNNING,
            _state(RunState.TRAINING),
            "1.1",
            "",
            True,
            Phase.RESTARTING,
            id="worker-gone-before-the-coordinator-knows",
        ),
        pytest.param(
            Phase.RUNNING, _state(RunState.GATHERING), "", "1.1", False, Phase.RESTARTING, id="broken"
        ),
        pytest.param(
            Phase.RUNNING, _state(RunState.GATHERING, ""), "", "1.1", False, Phase.RUNNING, id="replaced"
        ),
        pytest.param(Phase.RUNNING, _state(RunState.LOADING), "", "1.1", False, Phase.RUNNING, id="adopted"),
        pytest.param(
            Phase.RESTARTING,
            _state(RunState.TRAINING, "1.2"),
            "1.1",
            "1.2",
            False,
            Phase.RUNNING,
            id="trains-again",
        ),
        pytest.param(Phase.SUSPENDED, SILENT, "", "", False, Phase.STARTING, id="resumed"),
    ],
)
def test_active_phase(
    before: Phase | None,
    state: CoordinatorState,
    broken: str,
    current: str,
    interrupted: bool,
    phase: Phase,
) -> None:
    assert active_phase(before, state, broken, current, interrupted) is phase
