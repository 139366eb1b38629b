"""Has all ranks take new limits after the same step.

The list has it before whatever asks which step is the last one, or whether one is
saved: what is decided after a step is decided under the limits that hold from then on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Flags
from footplate_trainer.parallel.world import World

_log = logging.getLogger(__name__)


@dataclass
class LimitsFollower(Callback):
    """Follows what the agent has been told."""

    limits: RunLimits
    agent: AgentClient
    world: World
    done: int  # the last finished step

    def before_compute(self, step: int) -> Flags:
        """See Callback."""
        told = self.agent.limits()
        return Flags(new_limits=told is not None and told.newer_than(self.limits.in_force))

    def after_step(self, step: TrainedStep) -> None:
        """See Callback."""
        self.done = step.number
        if step.result.flags.new_limits:
            self._take()

    def after_last_step(self) -> None:
        """More steps may have been asked for while the last checkpoint was written."""
        self._take()

    def _take(self) -> None:
        if self.limits.agree(self.agent.limits(), self.world, self.done) and self.world.rank == 0:
            _log.info("from step %d on: %s", self.done + 1, self.limits)
