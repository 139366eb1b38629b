"""What an agent is told of a step, phase by phase."""

from __future__ import annotations

from pathlib import Path

from footplate_contracts.directives import Command
from footplate_contracts.reports import RankPhase
from footplate_trainer.callbacks.limits import SuspensionCallback
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import StepFlags
from footplate_trainer.metrics.stopwatch import StepPart
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent, rank_of, trained


def test_each_phase_of_a_step_is_told_with_the_step_before_it() -> None:
    agent = FakeAgent()
    reporter = Reporter(agent, rank_of(1))
    reporter.report_phase(RankPhase.LOADING)
    reporter.set_start(3, 300, RunLimits(tiny_config(Path("/shards"), Path("/run"))))
    reporter.before_data(4)
    assert reporter.before_compute(4) == StepFlags()
    reporter.after_step(trained(4, seconds=0.25))
    assert [
        (told.phase, told.rank, told.step, told.total_steps, told.step_seconds) for told in agent.reports
    ] == [
        (RankPhase.LOADING, 1, 0, None, None),
        (RankPhase.LOADING, 1, 3, 6, None),
        (RankPhase.DATA, 1, 3, 6, None),
        (RankPhase.COMPUTE, 1, 3, 6, None),
        (RankPhase.COMPUTE, 1, 4, 6, 0.25),
    ]
    assert (reporter.step, reporter.tokens) == (4, 400)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_told_twice_a_second_and_a_change_of_phase_at_once() -> None:
    agent, clock = FakeAgent(), Clock()
    reporter = Reporter(agent, rank_of(1), clock)
    for phase, tokens, seconds in (
        (RankPhase.DATA, None, 0.0),
        (RankPhase.ROLLOUT, 0, 0.0),
        (RankPhase.ROLLOUT, 3, 0.125),
        (RankPhase.ROLLOUT, 8, 0.25),
        (RankPhase.ROLLOUT, 9, 0.125),
        (RankPhase.ROLLOUT, 9, 0.125),
        (RankPhase.SCORING, 0, 0.0),
        (RankPhase.SCORING, 1, 0.625),
        (RankPhase.COLLECTIVE, None, 0.0),
        (RankPhase.COLLECTIVE, None, 0.0),
    ):
        clock.now += seconds
        reporter.report_phase(phase, progress=tokens)
    assert [(told.phase, told.progress) for told in agent.reports] == [
        (RankPhase.DATA, None),
        (RankPhase.ROLLOUT, 0),
        (RankPhase.ROLLOUT, 9),
        (RankPhase.SCORING, 0),
        (RankPhase.SCORING, 1),
        (RankPhase.COLLECTIVE, None),
        (RankPhase.COLLECTIVE, None),
    ]


def test_a_step_is_told_without_the_rollout_before_it() -> None:
    agent = FakeAgent()
    parts = {
        StepPart.ROLLOUT: 600.0,
        StepPart.SCORING: 30.0,
        StepPart.COMPUTE: 0.75,
        StepPart.VALIDATION: 0.5,
    }
    Reporter(agent, rank_of(1)).after_step(trained(4, seconds=631.5, parts=parts))
    assert [told.step_seconds for told in agent.reports] == [1.5]


def test_a_command_becomes_a_flag() -> None:
    agent = FakeAgent(suspend_after=1)
    suspension = SuspensionCallback(agent)
    assert suspension.before_compute(1) == StepFlags()
    agent.step = 1
    assert agent.command() is Command.CHECKPOINT_AND_EXIT
    assert suspension.before_compute(2) == StepFlags(suspend=True)
