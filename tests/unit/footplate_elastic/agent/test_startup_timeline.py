"""Where the time of a recovery went: told by the agents, read by the bench."""

from __future__ import annotations

import logging

import pytest
from bench.elastic.stations import PARTS, recovery

from footplate_contracts.logs import formatter, log_fields
from footplate_contracts.names import LogFormat
from footplate_contracts.reports import GenerationId, RankPhase, RankReport
from footplate_elastic.agent.startup_timeline import StartupTimeline

G2 = GenerationId(epoch=1, number=2)

FAULT = 1767225610.0  # 2026-01-01T00:00:10Z


def logged(time: float, message: str, **about: object) -> str:
    """A line of a log."""
    record = logging.makeLogRecord({"msg": message, "created": time, **log_fields(**about)})
    return formatter(LogFormat.LOGFMT).format(record) + "\n"


COORDINATOR = "".join(
    (
        logged(FAULT - 10.0, "sealed generation 1.1: run-w0-0, run-w1-0"),
        logged(FAULT - 1.0, "opened a new generation after 1.0: an older one"),
        logged(FAULT + 0.1, "opened a new generation after 1.1: worker 1 joined again"),
        logged(FAULT + 0.35, "sealed generation 1.2: run-w0-0, run-w1-0"),
    )
)


def told(
    timeline: StartupTimeline, rank: int, phase: RankPhase, seconds: float | None, now: float
) -> dict[str, float] | None:
    report = RankReport(rank=rank, local_rank=rank, step=1, phase=phase, step_seconds=seconds)
    return timeline.report(report, now)


def line(offset: float) -> str:
    """The log of an agent whose two ranks are a little apart."""
    timeline = StartupTimeline(G2, 2, sealed=FAULT + 0.4, forked=FAULT + 0.5 + offset)
    for rank in (0, 1):
        told(timeline, rank, RankPhase.LOADING, None, FAULT + 0.6 + offset + rank / 100)
        told(timeline, rank, RankPhase.DATA, None, FAULT + 0.8 + offset)
    assert told(timeline, 0, RankPhase.COMPUTE, 0.1, FAULT + 0.9 + offset) is None
    found = told(timeline, 1, RankPhase.COMPUTE, 0.1, FAULT + 1.0 + offset)
    assert found is not None
    assert told(timeline, 1, RankPhase.COMPUTE, 0.1, FAULT + 2.0) is None
    return logged(FAULT + 1.0, "timeline", generation=G2, **found)


def test_a_station_is_passed_with_its_last_rank_on_the_last_agent() -> None:
    found = recovery(FAULT, COORDINATOR, [line(0.0), line(0.05)], "1.2")
    assert dict(zip(PARTS, found.parts, strict=True)) == pytest.approx(
        {
            "detect": 0.1,
            "rendezvous": 0.25,
            "fork": 0.2,
            "process group": 0.11,
            "load": 0.19,
            "first step": 0.2,
        },
        abs=0.002,
    )
    assert found.total == pytest.approx(1.05, abs=0.002)


def test_ranks_that_sample_before_their_first_step_are_at_work() -> None:
    timeline = StartupTimeline(G2, 1, sealed=1.0, forked=2.0)
    told(timeline, 0, RankPhase.LOADING, None, 3.0)
    for now, tokens in ((4.0, 0), (5.0, 1)):
        report = RankReport(rank=0, local_rank=0, step=1, phase=RankPhase.ROLLOUT, progress=tokens)
        found = timeline.report(report, now)
    assert found == {"sealed": 1.0, "forked": 2.0, "grouped": 3.0, "loaded": 4.0, "stepping": 5.0}


@pytest.mark.parametrize(
    ("coordinator", "agents", "says"),
    [
        pytest.param("", [line(0.0)], "no line like", id="no coordinator"),
        pytest.param(COORDINATOR, [""], "no agent tells the timeline of generation 1.2", id="no agent"),
    ],
)
def test_a_log_that_does_not_tell_is_named(coordinator: str, agents: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        recovery(FAULT, coordinator, agents, "1.2")
