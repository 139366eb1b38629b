"""Has all ranks take new limits after the same step.

The list has it before whatever asks which step is the last one, or whether one is
saved: what is decided after a step is decided under the limits that hold from then on.
"""

from __future__ import annotations

import logging

from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Flags
from footplate_trainer.parallel.world import World

_log = logging.getLogger(__name__)


class LimitsFollower(Callback):
    """Follows what the agent has been told."""

    def __init__(self, limits: RunLimits, agent: AgentClient, world: World, done: int) -> None:
        """`done` is the step that training goes on from."""
        self._limits = limits
        self._agent = agent
        self._world = world
        self._done = done

    def before_compute(self, step: int) -> Flags:
        """See Callback."""
        told = self._agent.limits()
        return Flags(new_limits=told is not None and told.newer_than(self._limits.in_force))

    def after_step(self, step: TrainedStep) -> None:
        """See Callback."""
        self._done = step.number
        if step.result.flags.new_limits:
            self._take()

    def after_last_step(self) -> None:
        """More steps may have been asked for while the last checkpoint was written."""
        self._take()

    def _take(self) -> None:
        if self._limits.agree(self._agent.limits(), self._world, self._done) and self._world.rank == 0:
            _log.info("from step %d on: %s", self._done + 1, self._limits)
