"""What the operator tells a gang that runs: one document, whole each time.

It is level-triggered, as a spec is: the coordinator is told how things should
be, as often as it was told anything else, and says which directives it was told
last and which of them it refuses. So a setting that may change while ranks train
is one field here, one line where the operator derives it, and one line where the
coordinator hands it to whoever acts on it. Where ranks act on it, it is a field of
`Limits`, and the other two lines are there already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic.alias_generators import to_camel

from footplate_contracts.energy import MOST_PODS
from footplate_contracts.model import Report, read_unknown_as
from footplate_contracts.v1alpha1.compute import Checkpoint
from footplate_contracts.v1alpha1.resilience import ROLLOUT_SECONDS, SCORING_SECONDS, Hang

# Why a directive is not in force, by the name of its field.
Refusals = dict[str, Annotated[str, Field(max_length=1024)]]


class Command(StrEnum):
    """What an agent's ranks are asked to do."""

    NONE = "none"
    CHECKPOINT_AND_EXIT = "checkpointAndExit"
    DISCARD = "discard"  # nothing any more: whoever is told to end need not save first


_USUAL: Final = Hang()
MOST_KEPT: Final = 64
_ABSENT: Final = {"rollout_seconds": ROLLOUT_SECONDS, "scoring_seconds": SCORING_SECONDS}


class HangBounds(Report):
    """A standstill of max(factor x P99 of steps, floor) seconds is a hang; other phases have bounds too."""

    factor: float = Field(ge=1.0)
    floor_seconds: float = Field(ge=0.0)
    # An operator of an earlier release does not say these.
    loading_seconds: float = Field(default=_USUAL.loading_seconds, gt=0.0)
    first_step_seconds: float = Field(default=_USUAL.first_step_seconds, gt=0.0)
    checkpoint_seconds: float = Field(default=_USUAL.checkpoint_seconds, gt=0.0)
    validation_seconds: float = Field(default=_USUAL.validation_seconds, gt=0.0)
    # Where a spec does not say these, nobody does: what is rendered for a run without them stays as it is.
    rollout_seconds: float | None = Field(default=None, gt=0.0)
    scoring_seconds: float | None = Field(default=None, gt=0.0)

    def seconds(self, bound: str) -> float:
        """The bound in the field of that name; the usual one where it is absent."""
        said: float | None = getattr(self, bound)
        return _ABSENT[bound] if said is None else said


@dataclass(frozen=True)
class SaidBy:
    """Metadata of a limit: the field that says it, in a spec and in the RunConfig that is made of it."""

    section: str
    field: str

    @property
    def path(self) -> str:
        """As it is written in a spec."""
        return f"{to_camel(self.section)}.{to_camel(self.field)}"


class Limits(Report):
    """How long the run trains and how often it saves."""

    steps: int = Field(ge=1)
    every_steps: Annotated[int, SaidBy("checkpoint", "every_steps")] = Field(
        ge=1, description="between checkpoints"
    )
    keep_last: Annotated[int, SaidBy("checkpoint", "keep_last")] = Field(ge=1)
    keep_every_steps: Annotated[int | None, SaidBy("checkpoint", "keep_every_steps")] = Field(
        default=None, ge=1
    )
    kept_steps: list[int] | None = Field(
        default=None,
        max_length=MOST_KEPT,
        description="checkpoints that stay whatever their age; absent: none",
    )


# Each limit but the length.
SAID_BY: Final[Mapping[str, SaidBy]] = {
    name: said_by
    for name, field in Limits.model_fields.items()
    for said_by in field.metadata
    if isinstance(said_by, SaidBy)
}
# The fields of the spec that say limits, the length's own first.
LIMIT_FIELDS: Final = (
    "training.steps",
    "training.tokens",
    "checkpoint.promoted",
    *(by.path for by in SAID_BY.values()),
)


def said(source: object) -> dict[str, Any]:
    """Each limit but the length, as a spec or a RunConfig says it; None where it lacks the section."""
    return {name: getattr(getattr(source, by.section), by.field, None) for name, by in SAID_BY.items()}


# What directives came to say later than the first coordinators that take any, by the field of the spec: those
# pass it over, and tell nobody.
LATER: Final[Mapping[str, str]] = {
    "checkpoint.promoted": "limits.kept_steps",
    "resilience.hang.rolloutSeconds": "hang.rollout_seconds",
    "resilience.hang.scoringSeconds": "hang.scoring_seconds",
}
# All that directives came to say later: the above, and what no field of the spec says.
LATER_DIRECTIVES: Final = (*LATER.values(), "domains")


def promoted_steps(checkpoint: Checkpoint) -> list[int] | None:
    """Steps that bear a mark, ascending; None where none does."""
    return sorted({promotion.step for promotion in checkpoint.promoted or ()}) or None


class NumberedLimits(Limits):
    """What ranks are told of them: of two, the newer one counts."""

    epoch: int = Field(default=0, description="of the coordinator that tells; 0: as the RunConfig says")
    number: int = Field(default=0, description="counts up within one epoch")

    def newer_than(self, other: NumberedLimits) -> bool:
        """Whether these were told after `other`."""
        return (self.epoch, self.number) > (other.epoch, other.number)


class GoneWorker(Report):
    """A pod that Kubernetes holds to be gone, by its slot and which pod of that slot it is."""

    index: int = Field(ge=0)
    incarnation: int = Field(ge=0)
    ended: bool = Field(default=False, description="its containers have ended, as their kubelet said")


class Directives(Report):
    """How the gang should be; idempotent. What is absent stays as it is."""

    nodes: int = Field(ge=1, description="so many train from the next checkpoint on")
    min_nodes: int | None = Field(
        default=None, ge=1, description="so few go on where some are lost; absent: as many as nodes"
    )
    hang: HangBounds | None = Field(default=None, description="in force at once")
    limits: Limits | None = Field(default=None, description="in force after a step that all ranks agree upon")
    command: Annotated[Command, read_unknown_as(Command.NONE)] = Command.NONE
    gone: list[GoneWorker] | None = Field(
        default=None, max_length=MOST_PODS, description="of the agents that are missed; absent: none"
    )
    domains: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        default=None,
        max_length=MOST_PODS,
        description="topology domain by node, of the nodes of the gang's pods: ranks of one copy of the model"
        " share a domain; absent: ranks follow slots",
    )
