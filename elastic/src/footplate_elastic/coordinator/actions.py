"""Actions that membership decisions return.

The decisions change nothing outside themselves; the coordinator writes these to the log, wakes the waiting
agents, and lists the failures.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from footplate_contracts.coordinator_state import NumberedFailure, RunState
from footplate_contracts.names import Reason
from footplate_contracts.rendezvous import AgentIdentity, SealedGeneration
from footplate_contracts.reports import GenerationId

TOLD_TO_END: Final = "it received a stop request"  # why an agent is gone


@dataclass(frozen=True)
class RendezvousOpened:
    """A rendezvous: the ranks of `generation` stop and their agents join again."""

    generation: GenerationId | None
    why: str


@dataclass(frozen=True)
class GenerationStarted:
    """The start of a new generation."""

    sealed: SealedGeneration


@dataclass(frozen=True)
class GenerationAdopted:
    """The takeover of an earlier coordinator's generation, which goes on undisturbed."""

    sealed: SealedGeneration


@dataclass(frozen=True)
class AgentArrived:
    """An agent's first message, or its first after it counted as lost."""

    agent: AgentIdentity


@dataclass(frozen=True)
class AgentEvicted:
    """The loss of an agent's slot to a newer incarnation."""

    agent: AgentIdentity


@dataclass(frozen=True)
class SparePromoted:
    """A spare's move into a slot; its identity is `agent` from now on."""

    spare: AgentIdentity
    agent: AgentIdentity


@dataclass(frozen=True)
class MemberLost:
    """The loss of a member."""

    agent: AgentIdentity
    generation: GenerationId | None
    reason: Reason
    why: str


@dataclass(frozen=True)
class AgentUnreachable:
    """An agent that the coordinator hears and its peers do not reach; its slot should move."""

    agent: AgentIdentity
    why: str


@dataclass(frozen=True)
class AgentLeaving:
    """An agent that got SIGTERM; all ranks save first."""

    agent: AgentIdentity


@dataclass(frozen=True)
class RunClosed:
    """The end of the run: agents end."""

    state: RunState


Action = (
    RendezvousOpened
    | GenerationStarted
    | GenerationAdopted
    | AgentArrived
    | AgentEvicted
    | SparePromoted
    | MemberLost
    | AgentUnreachable
    | AgentLeaving
    | NumberedFailure
    | RunClosed
)
"""A NumberedFailure is one that was listed just now."""


def log_message(action: Action) -> tuple[int, str]:
    """Return the log level and the log message of an action."""
    match action:
        case RendezvousOpened(generation, why):
            return logging.INFO, f"opened a new generation after {generation or 'none'}: {why}"
        case GenerationStarted(sealed):
            names = ", ".join(member.agent.pod_name for member in sealed.members)
            return logging.INFO, f"sealed generation {sealed.generation}: {names}"
        case GenerationAdopted(sealed):
            return logging.INFO, f"adopted the running generation {sealed.generation}"
        case AgentArrived(agent):
            return logging.INFO, f"{agent.pod_name} joined"
        case AgentLeaving(agent):
            return logging.INFO, f"{agent.pod_name} received a stop request: all ranks save first"
        case AgentEvicted(agent):
            return logging.INFO, f"evicted {agent.pod_name}: a newer incarnation has its slot"
        case SparePromoted(spare, agent):
            return logging.INFO, f"{spare.pod_name} takes slot {agent.index}"
        case MemberLost(agent, _, _, why):
            return logging.WARNING, f"{agent.pod_name} is lost: {why}"
        case AgentUnreachable(agent, why):
            return logging.WARNING, f"{agent.pod_name} should move to another node: {why}"
        case NumberedFailure(agent=agent, failure=failure):
            return logging.WARNING, f"{agent.pod_name} reports {failure.cause}: {failure.message}"
        case RunClosed(outcome):
            return logging.INFO, f"the run is {outcome}"
