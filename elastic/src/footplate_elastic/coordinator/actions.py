"""What a decision of the membership asks its surroundings to do.

The decisions change nothing outside themselves; the server writes these to the
log, wakes whoever waits, and lists the failures.
"""

from __future__ import annotations

from dataclasses import dataclass

from footplate_contracts.names import Reason
from footplate_contracts.reports import (
    AgentIdentity,
    GenerationId,
    NumberedFailure,
    RunState,
    SealedGeneration,
)


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
class Closed:
    """The run is over: agents end."""

    state: RunState


Action = Opened | Sealed | Adopted | Arrived | Evicted | Promoted | Lost | NumberedFailure | Closed
"""A NumberedFailure is one that was listed just now."""
