"""What one run may name of another, and where a frozen model comes from."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Refusal, Rule, refuse
from footplate_contracts.v1alpha1.types import Label, Name, Part, Uri, own_files


class RunReference(Part):
    """A checkpoint of another run of the same namespace."""

    name: Name = Field(description="of the other run")
    checkpoint: Annotated[str, Field(min_length=1, max_length=16)] = Field(
        "latest", description="latest, best by its validation loss, promoted, or a step"
    )
    mark: Label | None = Field(None, description="of promoted: the name of its mark; default: the only one")

    rules: ClassVar = (
        Rule(
            "self.checkpoint in ['latest', 'best', 'promoted']"
            " || self.checkpoint.matches('^(0|[1-9][0-9]{0,14})$')",
            "checkpoint {self.checkpoint} is neither latest, best, promoted nor a step",
            field="checkpoint",
        ),
        Rule(
            "!has(self.mark) || self.checkpoint == 'promoted'",
            "mark names one of the promoted checkpoints, and checkpoint is {self.checkpoint}; remove it",
            field="mark",
            refusal=Refusal.FORBIDDEN,
        ),
    )


class FrozenModel(Part):
    """A model that is computed and not trained."""

    uri: Uri | None = Field(None, description="a folder of weights, or a run's checkpoint.uri")
    run: RunReference | None = Field(None, description="a checkpoint of another run, instead of uri")

    rules: ClassVar[tuple[Rule, ...]] = (
        own_files("uri"),
        Rule(
            "!has(self.uri) || !has(self.run)",
            "uri {self.uri} and run {self.run.name} are both given; the weights come from one of them",
            field="uri",
        ),
        refuse("run"),
    )


class ReferenceModel(FrozenModel):
    """The model from which a trained one is kept near; by default, the weights that training starts from."""

    precomputed: bool = Field(
        False,
        description="its log-probabilities are computed before training and kept with the digests of data and"
        " weights, so that no step holds the model",
    )
