"""Which failures count against restart limits: the buckets against a list of all failures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from footplate_contracts.names import Cause
from footplate_contracts.v1alpha1.status import RECENT_LIMIT
from footplate_operator.trainingrun import failure_window

NOW = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hours_ago(*failures: tuple[float, int]) -> failure_window.Recent:
    """Hangs so many hours ago, each with the newest durable checkpoint of then."""
    recent: failure_window.Recent = ()
    for hours, checkpoint in failures:
        recent = failure_window.add_failures(recent, Cause.HANG, NOW - hours * HOUR, checkpoint)
    return recent


@pytest.mark.parametrize(
    ("failures", "steps", "count"),
    [
        pytest.param([(1, 0), (20, 0)], [], 2, id="within-a-day"),
        pytest.param([(500, 0), (400, 0)], [], 2, id="no-checkpoint-at-all"),
        pytest.param([(500, 0), (400, 100)], [100, 200], 2, id="two-checkpoints"),
        pytest.param([(500, 0), (400, 100)], [100, 200, 300], 1, id="since-the-third-newest"),
        pytest.param([(30, 100)], [200, 300, 400], 0, id="refilled-after-a-day"),
        pytest.param([(23, 100)], [200, 300, 400], 1, id="not-refilled-by-checkpoints-alone"),
        pytest.param([(24.4, 100)], [200, 300, 400], 1, id="the-hour-a-day-ago-counts-whole"),
        pytest.param([(24.6, 100)], [200, 300, 400], 0, id="and-the-one-before-does-not"),
    ],
)
def test_what_counts(failures: list[tuple[float, int]], steps: list[int], count: int) -> None:
    assert failure_window.count_failures(hours_ago(*failures), Cause.HANG, steps, NOW) == count


@pytest.mark.parametrize(
    ("failing", "saving"),
    [
        pytest.param(0.05, 0.3, id="many-failures"),
        pytest.param(3.0, 0.1, id="many-checkpoints"),
        pytest.param(2.0, 2.0, id="as-many"),
        pytest.param(5.0, 30.0, id="checkpoints-days-apart"),
        pytest.param(40.0, 20.0, id="a-healthy-month"),
    ],
)
def test_the_count_is_exact_at_any_age_of_a_run(failing: float, saving: float) -> None:
    """Failures and checkpoints, each once in so many hours."""
    chance, now, saved = Random(17), NOW, 0
    every: list[tuple[datetime, int, Cause]] = []
    recent: failure_window.Recent = ()
    for _ in range(100):
        now += chance.expovariate(1 / failing + 1 / saving) * HOUR
        cause, number = chance.choice([Cause.HANG, Cause.NODE_LOST, Cause.STORAGE]), chance.choice([1, 1, 30])
        if chance.random() < failing / (failing + saving):
            saved += 1
        else:
            every += [(now, saved, cause)] * number
            recent = failure_window.add_failures(recent, cause, now, saved, number)
        steps = range(max(1, saved - 2), saved + 1)
        recent = failure_window.prune_failures(recent, steps, now)
        assert len(recent) <= RECENT_LIMIT
        assert failure_window.count_failures(recent, cause, steps, now) == _reference(
            every, cause, saved, now
        )


def _reference(failures: list[tuple[datetime, int, Cause]], cause: Cause, newest: int, now: datetime) -> int:
    first = now.replace(minute=0, second=0, microsecond=0) - 24 * HOUR
    return sum(by is cause and (at >= first or saved >= newest - 2) for at, saved, by in failures)


def test_a_clock_that_runs_backwards_makes_no_status_too_long() -> None:
    recent: failure_window.Recent = ()
    for number in range(200):
        recent = failure_window.add_failures(recent, Cause.HANG, NOW - (number % 25) * HOUR, 100 + number % 3)
    assert len(recent) > RECENT_LIMIT
    recent = failure_window.prune_failures(recent, [100, 101, 102], NOW)
    assert len(recent) <= RECENT_LIMIT
    assert failure_window.count_failures(recent, Cause.HANG, [100, 101, 102], NOW) == 200


def test_a_better_reason_moves_one_failure_to_its_cause() -> None:
    recent = failure_window.add_failures(hours_ago((2, 100), (1, 100)), Cause.NODE_LOST, NOW, 200)
    seen = NOW - HOUR + timedelta(minutes=5)
    moved = failure_window.remove_failure(recent, Cause.HANG, seen, Cause.OUT_OF_MEMORY)
    assert [dict(part.failures) for part in moved] == [{"Hang": 1}, {"OutOfMemory": 1}, {"NodeLost": 1}]
    assert failure_window.remove_failure(moved, Cause.OUT_OF_MEMORY, seen) == (moved[0], moved[2])
    assert failure_window.remove_failure(recent, Cause.STORAGE, seen) == recent
