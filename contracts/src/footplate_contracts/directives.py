"""What the operator tells a gang that runs: one document, whole each time.

It is level-triggered, as a spec is: the coordinator is told how things should
be, as often as it was told anything else, and says which directives it was told
last and which of them it refuses. So a setting that may change while ranks train
is one field here, one line where the operator derives it, and one line where the
coordinator hands it to whoever acts on it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from footplate_contracts.model import Report, read_unknown_as

# Why a directive is not in force, by the name of its field.
Refusals = dict[str, Annotated[str, Field(max_length=1024)]]


class Command(StrEnum):
    """What an agent's ranks are asked to do."""

    NONE = "none"
    CHECKPOINT_AND_EXIT = "checkpointAndExit"


class HangBounds(Report):
    """A standstill of max(factor x P99 of steps, floor) seconds is a hang."""

    factor: float = Field(ge=1.0)
    floor_seconds: float = Field(ge=0.0)


class Limits(Report):
    """How long the run trains and how often it saves."""

    steps: int = Field(ge=1)
    every_steps: int = Field(ge=1, description="between checkpoints")
    keep_last: int = Field(ge=1)
    keep_every_steps: int | None = Field(default=None, ge=1)


class NumberedLimits(Limits):
    """What ranks are told of them: of two, the newer one counts."""

    epoch: int = Field(default=0, description="of the coordinator that tells; 0: as the RunConfig says")
    number: int = Field(default=0, description="counts up within one epoch")

    def newer_than(self, other: NumberedLimits) -> bool:
        """Whether these were told after `other`."""
        return (self.epoch, self.number) > (other.epoch, other.number)


class Directives(Report):
    """How the gang should be; idempotent. What is absent stays as it is."""

    nodes: int = Field(ge=1, description="so many train from the next checkpoint on")
    min_nodes: int | None = Field(
        default=None, ge=1, description="so few go on where some are lost; absent: as many as nodes"
    )
    hang: HangBounds | None = Field(default=None, description="in force at once")
    limits: Limits | None = Field(default=None, description="in force after a step that all ranks agree upon")
    command: Annotated[Command, read_unknown_as(Command.NONE)] = Command.NONE
