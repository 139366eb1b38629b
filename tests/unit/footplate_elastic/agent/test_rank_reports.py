"""What an agent keeps of the reports of its ranks."""

from __future__ import annotations

from footplate_contracts.reports import RankPhase, RankReport
from footplate_elastic.agent.rank_reports import RankReports


def report(rank: int, step: int, seconds: float | None = None, total: int | None = None) -> RankReport:
    return RankReport(
        rank=rank,
        local_rank=rank,
        step=step,
        phase=RankPhase.COMPUTE,
        step_seconds=seconds,
        total_steps=total,
    )


def test_the_first_step_of_each_rank_is_news() -> None:
    reports = RankReports(None)
    told = [report(0, 4), report(0, 5, 0.1), report(1, 5, 0.1), report(0, 6, 0.1)]
    assert [reports.add_report(taken) for taken in told] == [False, True, True, False]


def test_a_rank_that_steps_is_not_taken_for_one_that_starts() -> None:
    reports = RankReports(None)
    reports.add_report(report(0, 5, 0.1))
    assert not reports.add_report(report(0, 5))
    assert reports.list_unsent() == [report(0, 5, 0.1)]


def test_where_a_rank_started_is_sent_once_however_soon_it_steps() -> None:
    reports = RankReports(None)
    reports.add_report(report(0, 4))
    reports.add_report(report(0, 5, 0.1))
    assert reports.list_unsent() == [report(0, 4), report(0, 5, 0.1)]
    reports.mark_sent(reports.list_unsent())
    assert reports.list_unsent() == [report(0, 5, 0.1)]


def test_ranks_say_how_far_they_go() -> None:
    reports = RankReports(total_steps=10)
    reports.add_report(report(0, 4))
    assert reports.total_steps == 10
    reports.add_report(report(0, 4, total=20))
    assert reports.total_steps == 20


def test_a_new_generation_begins_without_the_ranks_of_the_last() -> None:
    reports = RankReports(None)
    reports.add_report(report(0, 4))
    reports.end(suspended=True, now=7.0)
    assert (reports.finished, reports.suspended, reports.ended_at) == (False, True, 7.0)
    reports.clear()
    assert (reports.list_unsent(), reports.finished, reports.suspended) == ([], False, False)
