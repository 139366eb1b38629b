"""What a decision of the membership asks its surroundings to do.

The decisions change nothing outside themselves; the server writes these to the
log, wakes whoever waits, and lists the failures.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from footplate_contracts.coordinator_state import NumberedFailure, RunState
from footplate_contracts.names import Reason
from footplate_contracts.rendezvous import AgentIdentity, SealedGeneration
from footplate_contracts.reports import GenerationId

TOLD_TO_END: Final = "it was told to end"  # why an agent is gone


@dataclass(frozen=True)
class Opened:
    """Ranks of `generation` stop and their agents join again."""

    generation: GenerationId | None
    why: str


@dataclass(frozen=True)
class Sealed:
    """A new generation starts."""

    sealed: SealedGeneration


@dataclass(frozen=True)
class Adopted:
    """The generation of an earlier coordinator goes on undisturbed."""

    sealed: SealedGeneration


@dataclass(frozen=True)
class Arrived:
    """An agent speaks for the first time, or again after it was held to be gone."""

    agent: AgentIdentity


@dataclass(frozen=True)
class Evicted:
    """A newer incarnation has this agent's slot."""

    agent: AgentIdentity


@dataclass(frozen=True)
class Promoted:
    """A spare has taken a slot, and is called `agent` from now on."""

    spare: AgentIdentity
    agent: AgentIdentity


@dataclass(frozen=True)
class Lost:
    """A member is held to be gone."""

    agent: AgentIdentity
    generation: GenerationId | None
    reason: Reason
    why: str


@dataclass(frozen=True)
class Displaced:
    """An agent is heard, but not by its peers: another one should have its place."""

    agent: AgentIdentity
    why: str


@dataclass(frozen=True)
class Leaving:
    """An agent was told to end: all ranks save first."""

    agent: AgentIdentity


@dataclass(frozen=True)
class Closed:
    """The run is over: agents end."""

    state: RunState


Action = (
    Opened
    | Sealed
    | Adopted
    | Arrived
    | Evicted
    | Promoted
    | Lost
    | Displaced
    | Leaving
    | NumberedFailure
    | Closed
)
"""A NumberedFailure is one that was listed just now."""


def told(action: Action) -> tuple[int, str]:
    """What the log says of it, and at which level."""
    match action:
        case Opened(generation, why):
            return logging.INFO, f"opened a new generation after {generation or 'none'}: {why}"
        case Sealed(sealed):
            names = ", ".join(member.agent.pod_name for member in sealed.members)
            return logging.INFO, f"sealed generation {sealed.generation}: {names}"
        case Adopted(sealed):
            return logging.INFO, f"adopted the running generation {sealed.generation}"
        case Arrived(agent):
            return logging.INFO, f"{agent.pod_name} is here"
        case Leaving(agent):
            return logging.INFO, f"{agent.pod_name} was told to end: all save first"
        case Evicted(agent):
            return logging.INFO, f"evicted {agent.pod_name}: a newer incarnation has its slot"
        case Promoted(spare, agent):
            return logging.INFO, f"{spare.pod_name} takes slot {agent.index}"
        case Lost(agent, _, _, why):
            return logging.WARNING, f"{agent.pod_name} is lost: {why}"
        case Displaced(agent, why):
            return logging.WARNING, f"{agent.pod_name} should have another place: {why}"
        case NumberedFailure(agent=agent, failure=failure):
            return logging.WARNING, f"{agent.pod_name} reports {failure.cause}: {failure.message}"
        case Closed(outcome):
            return logging.INFO, f"the run is {outcome}"
