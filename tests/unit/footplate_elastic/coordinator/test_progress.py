"""What the operator sees of the run's progress."""

from __future__ import annotations

import pytest

from footplate_contracts.reports import GenerationId, RankPhase, RankReport
from footplate_elastic.coordinator import timing
from footplate_elastic.coordinator.progress import ProgressTracker
from tests.unit.footplate_elastic.coordinator.test_telemetry import row

G1, G2 = GenerationId(epoch=1, number=1), GenerationId(epoch=1, number=2)


def sampling(rank: int, progress: int | None, phase: RankPhase = RankPhase.ROLLOUT) -> RankReport:
    """Before the first step of a generation that begins after step 50."""
    return RankReport(rank=rank, local_rank=0, step=50, phase=phase, progress=progress)


def report(rank: int, step: int, seconds: float | None) -> RankReport:
    phase = RankPhase.LOADING if seconds is None else RankPhase.COMPUTE
    return RankReport(rank=rank, local_rank=0, step=step, phase=phase, step_seconds=seconds)


def begun(generation: GenerationId = G1) -> ProgressTracker:
    tracker = ProgressTracker()
    tracker.begin(generation)
    return tracker


def test_the_step_is_the_highest_of_all_ranks() -> None:
    tracker = begun()
    tracker.report(G1, [report(0, 7, 0.1), report(1, 6, 0.1)])
    assert tracker.view().step == 7


def test_a_generation_steps_once_a_rank_has_finished_a_step() -> None:
    tracker = begun()
    assert not tracker.report(G1, [report(0, 50, None)])
    assert (tracker.stepping, tracker.start_step) == (False, 50)
    assert tracker.report(G1, [report(0, 51, 0.1)])
    assert (tracker.stepping, tracker.start_step) == (True, 50)


@pytest.mark.parametrize("phase", [RankPhase.ROLLOUT, RankPhase.SCORING])
def test_a_generation_has_started_with_what_a_rank_finishes_in_its_first_rollout(phase: RankPhase) -> None:
    tracker = begun()
    assert not tracker.report(G1, [report(0, 50, None), report(1, 50, None)])
    assert not tracker.report(G1, [sampling(0, 0, phase)]), "it has only begun to sample"
    assert tracker.report(G1, [sampling(0, 1, phase)])
    assert (tracker.started, tracker.stepping, tracker.start_step) == (True, False, 50)
    assert not tracker.report(G1, [report(0, 51, 0.1)])
    assert (tracker.stepping, tracker.start_step, tracker.view().step) == (True, 50, 51)
    tracker.begin(G2)
    assert not tracker.started and tracker.view().finished is None


def test_what_was_read_and_written_is_told_for_good() -> None:
    tracker, data, answers = begun(), "0123456789abcdef", "1" * 64
    assert (tracker.view().data, tracker.view().answers) == (None, None)
    tracker.report(G1, [report(0, 7, 0.1).model_copy(update={"data": data}), report(1, 7, 0.1)])
    tracker.begin(G2)
    tracker.report(G2, [report(0, 8, 0.1).model_copy(update={"answers": answers})])
    assert (tracker.view().data, tracker.view().answers) == (data, answers)


def test_a_rollout_is_told_with_what_all_ranks_have_finished_in_it() -> None:
    tracker = begun()
    assert (tracker.view().phase, tracker.view().finished) == (None, None)
    tracker.report(G1, [sampling(0, 10), sampling(1, 5)])
    assert (tracker.view().phase, tracker.view().finished) == (RankPhase.ROLLOUT, 15)
    tracker.report(G1, [sampling(0, None, RankPhase.COLLECTIVE), sampling(1, 7)])
    assert (tracker.view().phase, tracker.view().finished) == (RankPhase.ROLLOUT, 17), "one waits"
    tracker.report(G1, [sampling(0, 2, RankPhase.SCORING), sampling(1, None, RankPhase.COLLECTIVE)])
    assert (tracker.view().phase, tracker.view().finished) == (RankPhase.SCORING, 2)
    tracker.report(G1, [report(0, 51, 0.1)])
    assert (tracker.view().phase, tracker.view().finished) == (None, None)
    tracker.report(G1, [RankReport(rank=0, local_rank=0, step=51, phase=RankPhase.ROLLOUT, progress=0)])
    assert (tracker.view().phase, tracker.view().finished) == (RankPhase.ROLLOUT, 0)


def test_what_remains_counts_the_rollouts_that_steps_share() -> None:
    tracker = begun()
    for step in range(1, 9):
        tracker.report(G1, [report(0, step, 2.0)])
        took = {"rollout_seconds": 30.0, "scoring_seconds": 10.0} if step % 4 == 1 else {}
        tracker.row(G1, row(step).model_copy(update=took))
    assert tracker.view().step_seconds == 2.0 + 40.0 / 4


def test_a_start_that_comes_together_with_the_first_step_is_not_missed() -> None:
    tracker = begun()
    tracker.report(G1, [report(0, 50, None), report(1, 50, None), report(0, 52, 0.1), report(1, 51, 0.1)])
    assert (tracker.stepping, tracker.start_step, tracker.view().step) == (True, 50, 52)


def test_reports_of_an_older_generation_are_not_heard() -> None:
    tracker = begun(G2)
    tracker.report(G1, [report(0, 99, 0.1)])
    assert (tracker.stepping, tracker.view().step) == (False, 0)


def test_after_a_restart_the_last_step_stands_until_ranks_step_again() -> None:
    tracker = begun()
    tracker.report(G1, [report(0, 57, 0.1)])
    tracker.row(G1, row(57))
    tracker.begin(G2)
    assert tracker.view().step == 57
    tracker.report(G2, [report(0, 0, None)])
    assert tracker.view().step == 57
    tracker.report(G2, [report(0, 51, 0.1)])
    assert tracker.view().step == 51


def test_a_late_row_of_an_older_generation_is_no_news() -> None:
    tracker = begun()
    tracker.row(G2, row(51))
    tracker.row(G1, row(57))
    assert tracker.view().tokens == 51


def test_a_row_of_a_newer_generation_is_news_also_at_a_lower_step() -> None:
    tracker = begun(G2)
    tracker.row(G1, row(57))
    tracker.row(G2, row(51))
    assert tracker.view().tokens == 51


def test_the_duration_of_a_step_is_the_median_of_recent_ones() -> None:
    tracker = begun()
    for seconds in (0.1, 0.2, 9.0):
        tracker.report(G1, [report(0, 1, seconds)])
    assert tracker.view().step_seconds == 0.2


def test_a_step_alone_is_news_more_seldom_than_what_ranks_are_at() -> None:
    tracker = begun()
    tracker.report(G1, [report(0, 7, 0.1)])
    assert not tracker.is_news(timing.STEPS - 0.1) and tracker.is_news(timing.STEPS)
    assert not tracker.is_news(timing.STEPS * 9), "it is as it was told"
    began = timing.STEPS * 9
    tracker.report(G1, [report(0, 8, 0.1)])
    assert tracker.is_news(began)
    tracker.report(G1, [sampling(0, 0)])
    assert not tracker.is_news(began + timing.PROGRESS - 0.1) and tracker.is_news(began + timing.PROGRESS)
