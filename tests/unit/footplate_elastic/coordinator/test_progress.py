"""What the operator sees of the run's progress."""

from __future__ import annotations

from footplate_contracts.reports import GenerationId, RankPhase, RankReport
from footplate_elastic.coordinator.progress import ProgressTracker
from tests.unit.footplate_elastic.coordinator.test_telemetry import row

G1, G2 = GenerationId(epoch=1, number=1), GenerationId(epoch=1, number=2)


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
