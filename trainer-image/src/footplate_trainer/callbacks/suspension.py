"""Asks all ranks to save and end, as soon as one of them has heard the command."""

from __future__ import annotations

from footplate_contracts.directives import Command
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.loop.callbacks import Callback
from footplate_trainer.loop.stepper import Flags


class Suspension(Callback):
    """Raises the flag; the checkpoint is DurableCheckpoints' business, and the end the loop's."""

    def __init__(self, agent: AgentClient) -> None:
        self._agent = agent

    def before_compute(self, step: int) -> Flags:
        """See Callback."""
        return Flags(suspend=self._agent.command() is Command.CHECKPOINT_AND_EXIT)
