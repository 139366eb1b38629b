"""What an agent is told of a step, phase by phase."""

from __future__ import annotations

from pathlib import Path

from footplate_contracts.directives import Command
from footplate_contracts.reports import RankPhase
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.callbacks.suspension import Suspension
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Flags
from tests.support.steps import rank_of, trained
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent


def test_each_phase_of_a_step_is_told_with_the_step_before_it() -> None:
    agent = FakeAgent()
    reporter = Reporter(agent, rank_of(1))
    reporter.enter(RankPhase.LOADING)
    reporter.start_from(3, 300, RunLimits(tiny_config(Path("/shards"), Path("/run"))))
    reporter.before_data(4)
    assert reporter.before_compute(4) == Flags()
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


def test_a_command_becomes_a_flag() -> None:
    agent = FakeAgent(suspend_after=1)
    suspension = Suspension(agent)
    assert suspension.before_compute(1) == Flags()
    agent.step = 1
    assert agent.command() is Command.CHECKPOINT_AND_EXIT
    assert suspension.before_compute(2) == Flags(suspend=True)
