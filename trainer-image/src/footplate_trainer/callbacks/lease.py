"""Blocks a step while another generation may be training in this one's place."""

from __future__ import annotations

from dataclasses import dataclass

from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.loop.callbacks import Callback


@dataclass(frozen=True)
class LeaseCallback(Callback):
    """Callback that waits for the agent if that has not had contact with a coordinator for too long."""

    agent: AgentClient

    def before_data(self, step: int) -> None:
        """See Callback."""
        self.agent.wait_for_lease()
