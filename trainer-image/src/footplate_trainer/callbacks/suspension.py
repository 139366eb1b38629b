"""Makes all ranks save and end as soon as one of them has received the command."""

from __future__ import annotations

from dataclasses import dataclass

from footplate_contracts.directives import Command
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.loop.callbacks import Callback
from footplate_trainer.loop.stepper import StepFlags


@dataclass(frozen=True)
class SuspensionCallback(Callback):
    """Callback that raises the flag; DurableCheckpoints saves, and the loop ends."""

    agent: AgentClient

    def before_compute(self, step: int) -> StepFlags:
        """See Callback."""
        return StepFlags(suspend=self.agent.command() is Command.CHECKPOINT_AND_EXIT)
