"""New limits come into force after the same step on ranks of which one has heard of them."""

from __future__ import annotations

import os
from pathlib import Path

from footplate_contracts.directives import NumberedLimits
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.callbacks.limits import LimitsFollower
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import StepFlags
from footplate_trainer.parallel.world import init_distributed, read_environment
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent, trained


def told(number: int, steps: int) -> NumberedLimits:
    return NumberedLimits(steps=steps, every_steps=1000, keep_last=3, epoch=1, number=number)


def follow(config: RunConfig) -> list[tuple[bool, int]]:
    """(flag raised, length in force) after each of three steps and after the last; rank 1 hears of all."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        agent = FakeAgent(told={1: told(1, 12), 3: told(2, 9)} if world.rank == 1 else {})
        limits = RunLimits(config)
        follower = LimitsFollower(limits, agent, world, done=0)
        seen = []
        for number, anyone in ((1, False), (2, True), (3, False)):
            flags = follower.before_compute(number)
            follower.after_step(trained(number, StepFlags(new_limits=anyone)))
            seen.append((flags.new_limits, limits.steps))
            agent.step = number
        follower.after_last_step()
        return [*seen, (False, limits.steps)]


def test_all_ranks_change_after_a_step_at_which_one_said_so(tmp_path: Path) -> None:
    silent, hearing = run_ranks(follow, 2, tiny_config(Path("/shards"), tmp_path))
    assert [steps for _, steps in silent] == [steps for _, steps in hearing] == [6, 12, 12, 9]
    assert [raised for raised, _ in hearing] == [False, True, False, False]
    assert not any(raised for raised, _ in silent)
