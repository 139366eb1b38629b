"""Time that adds up, and conditions that keep their transition times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st

from footplate_contracts.names import ConditionType, Phase
from footplate_contracts.v1alpha1.status import Condition, TimeStatus
from footplate_operator.runtime import conditions
from footplate_operator.runtime.clock import format_time, parse_time
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.trainingrun.status import wall_time
from footplate_operator.trainingrun.status.wall_time import StepWindow
from tests.support.properties import given

CREATED = datetime(2026, 1, 31, 12, tzinfo=UTC)
STILL = StepWindow(before=0, after=0, reached=0)


def after(seconds: float) -> datetime:
    return CREATED + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("phase", "member"),
    [
        pytest.param(None, "queued", id="new"),
        pytest.param(Phase.QUEUED, "queued", id="queued"),
        pytest.param(Phase.STARTING, "starting", id="starting"),
        pytest.param(Phase.RUNNING, "productive", id="running"),
        pytest.param(Phase.RESTARTING, "restarting", id="restarting"),
        pytest.param(Phase.SUSPENDING, "checkpointing", id="suspending"),
        pytest.param(Phase.SUSPENDED, "suspended", id="suspended"),
    ],
)
def test_time_goes_where_the_phase_says(phase: Phase | None, member: str) -> None:
    time = wall_time.book(TimeStatus(queued=10), CREATED, phase, STILL, after(25))
    assert getattr(time, member) - (10 if member == "queued" else 0) == 15
    assert wall_time.total(time) == 25


def test_a_run_that_has_ended_books_nothing() -> None:
    time = TimeStatus(queued=10, productive=5)
    assert wall_time.book(time, CREATED, Phase.SUCCEEDED, STILL, after(500)) == time


@pytest.mark.parametrize(
    ("steps", "productive", "recomputed", "checkpointing"),
    [
        pytest.param(StepWindow(0, 10, 0), 20, 0, 0, id="new-ground"),
        pytest.param(StepWindow(30, 40, 50), 0, 20, 0, id="all-of-it-again"),
        pytest.param(StepWindow(45, 55, 50), 10, 10, 0, id="half-of-it-again"),
        pytest.param(StepWindow(30, 30, 50), 0, 20, 0, id="no-step-yet-below-what-was-reached"),
        pytest.param(StepWindow(0, 10, 0, blocked_seconds=5), 15, 0, 5, id="a-blocking-checkpoint"),
        pytest.param(StepWindow(0, 10, 0, blocked_seconds=50), 0, 0, 20, id="one-longer-than-the-interval"),
    ],
)
def test_running_is_split(
    steps: StepWindow, productive: float, recomputed: float, checkpointing: float
) -> None:
    time = wall_time.book(TimeStatus(), CREATED, Phase.RUNNING, steps, after(20))
    assert (time.productive, time.recomputed, time.checkpointing) == (productive, recomputed, checkpointing)


@given(st.lists(st.tuples(st.sampled_from(list(Phase)), st.floats(0.001, 5000)), max_size=40))
def test_the_members_always_add_up(intervals: list[tuple[Phase, float]]) -> None:
    time, now = TimeStatus(), CREATED
    for phase, seconds in intervals:
        if phase.is_terminal:
            break
        now += timedelta(seconds=seconds)
        time = wall_time.book(time, CREATED, phase, StepWindow(5, 9, 7, 1.0), now)
    assert wall_time.total(time) == pytest.approx((now - CREATED).total_seconds(), abs=0.005)


@pytest.mark.parametrize(
    ("time", "goodput"),
    [
        pytest.param(TimeStatus(queued=50), None, id="not-admitted"),
        pytest.param(TimeStatus(queued=50, starting=10, productive=30), 0.75, id="since-admission"),
        pytest.param(TimeStatus(productive=10, recomputed=5, restarting=5), 0.5, id="with-losses"),
    ],
)
def test_goodput(time: TimeStatus, goodput: float | None) -> None:
    assert wall_time.goodput(time) == goodput


def said(holds: bool, message: str) -> NewCondition:
    return NewCondition(ConditionType.READY, holds, "Reason", message)


def known(holds: bool, message: str) -> Condition:
    return conditions.condition(said(holds, message), 1, after(0))


@pytest.mark.parametrize(
    ("new", "transition"),
    [
        pytest.param(said(True, "other words"), after(0), id="same-status-keeps-its-time"),
        pytest.param(said(False, "words"), after(60), id="a-change-is-dated-now"),
    ],
)
def test_transition_time(new: NewCondition, transition: datetime) -> None:
    [merged] = conditions.merge([known(True, "words")], [new], 2, after(60))
    assert merged.last_transition_time == format_time(transition)
    assert (merged.message, merged.observed_generation) == (new.message, 2)


def test_types_that_are_not_mentioned_stay() -> None:
    other = known(True, "words").model_copy(update={"type": "Checkpointed"})
    merged = conditions.merge([other], [said(True, "words")], 1, after(9))
    assert [condition.type for condition in merged] == ["Checkpointed", "Ready"]


@pytest.mark.parametrize(
    ("text", "again"),
    [
        pytest.param("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z", id="kubernetes"),
        pytest.param("2026-01-31T13:00:00.5+01:00", "2026-01-31T12:00:00.500Z", id="another-zone"),
    ],
)
def test_times_are_read_and_written(text: str, again: str) -> None:
    assert format_time(parse_time(text)) == again
