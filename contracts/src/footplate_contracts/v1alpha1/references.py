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

    name: Name = Field(description="of the other run")
    checkpoint: Annotated[str, Field(min_length=1, max_length=16)] = Field(
        "latest", description="latest, best by its validation loss, promoted, or a step"
    )
    promoted_name: Label | None = Field(
        None, description="of promoted: the name of its mark; default: the only one"
    )

    rules: ClassVar = (
        Rule(
            "self.checkpoint in ['latest', 'best', 'promoted']"
            " || self.checkpoint.matches('^(0|[1-9][0-9]{0,14})$')",
            "checkpoint {self.checkpoint} is neither latest, best, promoted nor a step",
            field="checkpoint",
        ),
        forbidden_rule(
            "!has(self.promotedName) || self.checkpoint == 'promoted'",
            "promotedName names one of the promoted checkpoints, and checkpoint is {self.checkpoint}; remove"
            " it",
            field="promotedName",
        ),
    )


class GenerateRunReference(ApiModel):
    """Another run of the same namespace, of stage generate."""

    name: Name = Field(description="of the other run, whose rollout.output.uri is learnt from")


class LineageEntry(ApiModel):
    """Artifact of another run that this one uses: resolved once, and never again."""

    list_key: ClassVar = "field"

    field: Label = Field(description="of the spec, which names the other run")
    run: Name = Field(description="its name")
    uid: Annotated[str, Field(max_length=64)] = Field(description="its metadata.uid")
    step: Whole | None = Field(None, description="of its checkpoint; absent where it gave data")
    uri: CheckpointUri = Field(description="the directory")
    digest: Digest | None = Field(
        None, description="SHA-256 of its manifest.json; absent where nobody told it"
    )


class DependentRun(ApiModel):
    """A run that waits for a checkpoint of this one, or depends on one."""

    list_key: ClassVar = "name"

    name: Name = Field(description="its name")
    uid: Annotated[str, Field(max_length=64)] = Field(description="its metadata.uid")
    steps: Annotated[list[Whole], Field(max_length=len(ReferenceField))] = Field(
        [], description="whose checkpoints are kept for it; none while it is not known which"
    )


class FrozenModel(ApiModel):
    """A model that is computed and not trained."""

    uri: Uri | None = Field(None, description="a folder of weights, or a run's checkpoint.uri")
    run: RunReference | None = Field(None, description="a checkpoint of another run, instead of uri")

    rules: ClassVar[tuple[Rule, ...]] = (
        hostless_file_rule("uri"),
        Rule(
            "!has(self.uri) || !has(self.run)",
            "uri {self.uri} and run {self.run.name} are both given; the weights come from one of them",
            field="uri",
        ),
    )


class ReferenceModel(FrozenModel):
    """The model that a trained one stays near; by default, the weights that training starts from."""

    precomputed: bool = Field(
        False,
        description="its log-probabilities are computed before training and kept with the digests of data and"
        " weights, so that no step holds the model",
    )
