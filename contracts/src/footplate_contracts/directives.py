"""Directives: the document that the operator sends to a running gang, whole each time.

It is level-triggered, as a spec is: the operator sends the desired state, and the
coordinator reports the last directives that it received and which of them it
refuses. So a setting that may change while ranks train is one field here, one line
where the operator derives it, and one line where the coordinator applies it. Where
ranks act on it, it is a field of `Limits`, and the other two lines are there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, Field
from pydantic.alias_generators import to_camel

from footplate_contracts.base import WireMessage, read_unknown_as
from footplate_contracts.energy import MOST_PODS
from footplate_contracts.v1alpha1.compute import Checkpoint
from footplate_contracts.v1alpha1.resilience import ROLLOUT_SECONDS, SCORING_SECONDS, Hang

# Why a directive is not in force, by the name of its field.
Refusals = dict[str, Annotated[str, Field(max_length=1024)]]


class Command(StrEnum):
    """Request of the operator to all ranks."""

    NONE = "none"
    CHECKPOINT_AND_EXIT = "checkpointAndExit"
    DISCARD = "discard"  # nothing any more: whoever is told to end need not save first


_USUAL: Final = Hang()
MOST_KEPT: Final = 64
_ABSENT: Final = {"rollout_seconds": ROLLOUT_SECONDS, "scoring_seconds": SCORING_SECONDS}


FIRST_RELEASE: Final = "0.1.0"


@dataclass(frozen=True)
class Since:
    """Metadata of a directive: the first release whose coordinators act on it."""

    release: str


@dataclass(frozen=True)
class SpecField:
    """Metadata of a limit: the field that sets it, in a spec and in the RunConfig that is made of it."""

    section: str
    field: str

    @property
    def path(self) -> str:
        """Path of the field, as users write it in a spec."""
        return f"{to_camel(self.section)}.{to_camel(self.field)}"


class HangTimeouts(WireMessage):
    """A standstill of max(factor x P99 of steps, floor) seconds is a hang; other phases have bounds too."""

    factor: Annotated[float, Since("0.1.0")] = Field(ge=1.0)
    floor_seconds: Annotated[float, Since("0.1.0")] = Field(ge=0.0)
    loading_seconds: Annotated[float, Since("0.1.0")] = Field(default=_USUAL.loading_seconds, gt=0.0)
    first_step_seconds: Annotated[float, Since("0.1.0")] = Field(default=_USUAL.first_step_seconds, gt=0.0)
    checkpoint_seconds: Annotated[float, Since("0.1.0")] = Field(default=_USUAL.checkpoint_seconds, gt=0.0)
    validation_seconds: Annotated[float, Since("0.1.0")] = Field(default=_USUAL.validation_seconds, gt=0.0)
    # Absent where the spec lacks them: what is rendered for such a run stays as it is.
    rollout_seconds: Annotated[float | None, Since("0.1.0")] = Field(default=None, gt=0.0)
    scoring_seconds: Annotated[float | None, Since("0.1.0")] = Field(default=None, gt=0.0)

    def seconds(self, bound: str) -> float:
        """Return the bound in the field of that name; the usual one where it is absent."""
        value: float | None = getattr(self, bound)
        return _ABSENT[bound] if value is None else value


class Limits(WireMessage):
    """Length of the run and intervals of its checkpoints."""

    steps: Annotated[int, Since("0.1.0")] = Field(ge=1)
    every_steps: Annotated[int, Since("0.1.0"), SpecField("checkpoint", "every_steps")] = Field(
        ge=1, description="steps between checkpoints"
    )
    keep_last: Annotated[int, Since("0.1.0"), SpecField("checkpoint", "keep_last")] = Field(ge=1)
    keep_every_steps: Annotated[int | None, Since("0.1.0"), SpecField("checkpoint", "keep_every_steps")] = (
        Field(default=None, ge=1)
    )
    kept_steps: Annotated[list[int] | None, Since("0.1.0")] = Field(
        default=None,
        max_length=MOST_KEPT,
        description="steps of checkpoints to keep regardless of age; absent: none",
    )


def spec_fields(limits: type[Limits] = Limits) -> dict[str, SpecField]:
    """Return the field of the spec that sets each limit, by the limit's name; the length has none."""
    return {
        name: metadata
        for name, field in limits.model_fields.items()
        for metadata in field.metadata
        if isinstance(metadata, SpecField)
    }


# The fields of the spec that set limits, the length's own first.
LIMIT_FIELDS: Final = (
    "training.steps",
    "training.tokens",
    "checkpoint.promoted",
    *(field.path for field in spec_fields().values()),
)


def limit_values(source: object, limits: type[Limits] = Limits) -> dict[str, Any]:
    """Return each limit but the length, as a spec or a RunConfig sets it; None where it lacks the section."""
    return {
        name: getattr(getattr(source, field.section), field.field, None)
        for name, field in spec_fields(limits).items()
    }


def promoted_steps(checkpoint: Checkpoint) -> list[int] | None:
    """Steps that bear a mark, ascending; None where none does."""
    return sorted({promotion.step for promotion in checkpoint.promoted or ()}) or None


class NumberedLimits(Limits):
    """Limits as ranks receive them; the newer of two counts."""

    epoch: int = Field(default=0, description="epoch of the sending coordinator; 0: values of the RunConfig")
    number: int = Field(default=0, description="number of the limits, ascending within an epoch")

    def is_newer_than(self, other: NumberedLimits) -> bool:
        """Return whether these were sent after `other`."""
        return (self.epoch, self.number) > (other.epoch, other.number)


class GoneWorker(WireMessage):
    """A pod that Kubernetes holds to be gone, by its slot and which pod of that slot it is."""

    index: int = Field(ge=0)
    incarnation: int = Field(ge=0)
    ended: bool = Field(default=False, description="true if the kubelet reported that its containers ended")


class Directives(WireMessage):
    """Desired state of the gang; idempotent. A field that is absent changes nothing."""

    nodes: Annotated[int, Since("0.1.0")] = Field(
        ge=1, description="worker pods that train from the next checkpoint on"
    )
    min_nodes: Annotated[int | None, Since("0.1.0")] = Field(
        default=None, ge=1, description="worker pods that suffice after a loss; absent: as many as nodes"
    )
    hang: Annotated[HangTimeouts | None, Since("0.1.0")] = Field(default=None, description="applied at once")
    limits: Annotated[Limits | None, Since("0.1.0")] = Field(
        default=None, description="limits that apply after a step that all ranks agree on"
    )
    command: Annotated[Command, Since("0.1.0"), read_unknown_as(Command.NONE)] = Command.NONE
    gone: Annotated[list[GoneWorker] | None, Since("0.1.0")] = Field(
        default=None, max_length=MOST_PODS, description="missed agents confirmed as gone; absent: none"
    )
    domains: Annotated[dict[str, Annotated[str, Field(max_length=63)]] | None, Since("0.1.0")] = Field(
        default=None,
        max_length=MOST_PODS,
        description="topology domain of each node that has pods of the gang: ranks of one copy of the model"
        " share a domain; absent: ranks follow slots",
    )


@dataclass(frozen=True)
class LaterDirective:
    """A directive that coordinators of earlier releases ignore, as its path within the document.

    Attributes:
        spec: the field of the spec that sets it; empty: none does.
    """

    path: str
    spec: str = ""


def later_directives(document: type[Directives] = Directives) -> tuple[LaterDirective, ...]:
    """Return the directives that came after the first release, sections before their fields.

    Raises TypeError, so that no module imports this one, where a field does not state its release.
    """
    return tuple(_later(document, ""))


def _later(part: type[BaseModel], prefix: str) -> Iterator[LaterDirective]:
    for name, field in part.model_fields.items():
        releases = [metadata.release for metadata in field.metadata if isinstance(metadata, Since)]
        if len(releases) != 1:
            raise TypeError(f"{part.__name__}.{name}: has no release; annotate it with Since(VERSION)")
        path = f"{prefix}{name}"
        if releases[0] != FIRST_RELEASE:
            yield LaterDirective(path, _spec_path(part, name))
        for section in get_args(field.annotation):
            if isinstance(section, type) and issubclass(section, HangTimeouts | Limits):
                yield from _later(section, f"{path}.")


def _spec_path(part: type[BaseModel], name: str) -> str:
    if issubclass(part, HangTimeouts):
        return f"resilience.hang.{to_camel(name)}"
    field = spec_fields(part).get(name) if issubclass(part, Limits) else None
    return field.path if field else ""


LATER_DIRECTIVES: Final = later_directives()
