"""Callbacks that act on what the agent has received: new limits, a suspension, a lease.

The list has LimitsFollower before every callback that depends on the last step or on the save interval:
decisions after a step use the limits that hold from then on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from footplate_contracts.directives import Command
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import StepFlags
from footplate_trainer.parallel.world import DistributedContext

_log = logging.getLogger(__name__)


@dataclass
class LimitsFollower(Callback):
    """Callback that applies the limits that the agent has received."""

    limits: RunLimits
    agent: AgentClient
    world: DistributedContext
    done: int  # the last finished step

    def before_compute(self, step: int) -> StepFlags:
        told = self.agent.limits()
        return StepFlags(new_limits=told is not None and told.is_newer_than(self.limits.in_force))

    def after_step(self, step: TrainedStep) -> None:
        self.done = step.number
        if step.result.flags.new_limits:
            self._take()

    def after_last_step(self) -> None:
        """Apply the limits that arrived while the last checkpoint was written; they may add steps."""
        self._take()

    def _take(self) -> None:
        if self.limits.apply_newest(self.agent.limits(), self.world, self.done) and self.world.rank == 0:
            _log.info("from step %d on: %s", self.done + 1, self.limits)


@dataclass(frozen=True)
class LeaseCallback(Callback):
    """Callback that waits for the agent if that has not had contact with a coordinator for too long."""

    agent: AgentClient

    def before_data(self, step: int) -> None:
        self.agent.wait_for_lease()


@dataclass(frozen=True)
class SuspensionCallback(Callback):
    """Callback that raises the flag; DurableCheckpoints saves, and the loop ends."""

    agent: AgentClient

    def before_compute(self, step: int) -> StepFlags:
        return StepFlags(suspend=self.agent.command() is Command.CHECKPOINT_AND_EXIT)
