"""Makes all ranks save and end as soon as one of them has received the command."""

from __future__ import annotations

from dataclasses import dataclass

from footplate_contracts.directives import Command
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.loop.callbacks import Callback
from footplate_trainer.loop.stepper import Flags


@dataclass(frozen=True)
class Suspension(Callback):
    """Callback that raises the flag; DurableCheckpoints saves, and the loop ends."""

    agent: AgentClient

    def before_compute(self, step: int) -> Flags:
        """See Callback."""
        return Flags(suspend=self.agent.command() is Command.CHECKPOINT_AND_EXIT)
