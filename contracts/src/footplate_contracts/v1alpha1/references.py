"""References to other runs, and sources of frozen models."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from footplate_contracts.rules import Rule, forbidden_rule
from footplate_contracts.v1alpha1.types import (
    ApiModel,
    CheckpointUri,
    Digest,
    Label,
    Name,
    Uri,
    Whole,
    hostless_file_rule,
)

MOST_FOLLOWERS: Final = 32  # runs for which one keeps checkpoints at once


class ReferenceField(StrEnum):
    """Fields of a spec that may name another run: the parts that have `uri` and `run`."""

    INIT_FROM = "initFrom"
    PREFERENCE = "preference.reference"
    REWARD = "reward"
    REINFORCEMENT = "reinforcement.reference"
    VALUE = "reinforcement.value"
    DATA = "data"


class RunReference(ApiModel):
    """A checkpoint of another run of the same namespace."""

    name: Name = Field(description="name of the other run")
    checkpoint: Annotated[str, Field(min_length=1, max_length=16)] = Field(
        "latest", description="latest, best (lowest validation loss), promoted, or a step"
    )
    promoted_name: Label | None = Field(None, description="promoted: name of the mark; default: the only one")

    rules: ClassVar = (
        Rule(
            "self.checkpoint in ['latest', 'best', 'promoted']"
            " || self.checkpoint.matches('^(0|[1-9][0-9]{0,14})$')",
            "checkpoint {self.checkpoint} is neither latest, best, promoted nor a step",
            field="checkpoint",
        ),
        forbidden_rule(
            "!has(self.promotedName) || self.checkpoint == 'promoted'",
            "promotedName is for checkpoint promoted, and checkpoint is {self.checkpoint}; remove it",
            field="promotedName",
        ),
    )


class GenerateRunReference(ApiModel):
    """Another run of the same namespace, of stage generate."""

    name: Name = Field(description="name of the other run, whose rollout.output.uri has the data")


class LineageEntry(ApiModel):
    """Artifact of another run that this one uses: resolved once, and never again."""

    list_key: ClassVar = "field"

    field: Label = Field(description="field of the spec that names the other run")
    run: Name = Field(description="name of the other run")
    uid: Annotated[str, Field(max_length=64)] = Field(description="metadata.uid of the other run")
    step: Whole | None = Field(None, description="step of its checkpoint; absent for data")
    uri: CheckpointUri = Field(description="directory of the artifact")
    digest: Digest | None = Field(
        None, description="SHA-256 of its manifest.json; absent if the other run did not report it"
    )


class DependentRun(ApiModel):
    """A run that waits for a checkpoint of this one, or depends on one."""

    list_key: ClassVar = "name"

    name: Name = Field(description="name of the run")
    uid: Annotated[str, Field(max_length=64)] = Field(description="metadata.uid of the run")
    steps: Annotated[list[Whole], Field(max_length=len(ReferenceField))] = Field(
        [], description="steps of the checkpoints kept for it; empty until they are known"
    )


class FrozenModel(ApiModel):
    """A model that is evaluated and not trained."""

    uri: Uri | None = Field(None, description="folder of weights, or a run's checkpoint.uri")
    run: RunReference | None = Field(None, description="checkpoint of another run, instead of uri")

    rules: ClassVar[tuple[Rule, ...]] = (
        hostless_file_rule("uri"),
        Rule(
            "!has(self.uri) || !has(self.run)",
            "uri {self.uri} and run {self.run.name} are both set; the weights can come from only one of them",
            field="uri",
        ),
    )


class ReferenceModel(FrozenModel):
    """Reference model that limits changes of the trained one; by default, the starting weights."""

    precomputed: bool = Field(
        False,
        description="true: its log-probabilities are computed before training and stored under the digests"
        " of data and weights, so that the model needs no memory while training",
    )
