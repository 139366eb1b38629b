"""`spec.data` and `spec.validation`: which tokens, in which order."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import refuse, required
from footplate_contracts.v1alpha1.types import Count, Label, Part, Probability, Uri, local_path


class Source(Part):
    """One part of a mixture."""

    name: Label
    uri: Uri
    weight: Annotated[float, Field(ge=0.0, le=1e6)] = 1.0


class Tokenizer(Part):
    """A tokenizer other than the one beside the shards."""

    uri: Uri


class Packing(Part):
    """How documents share a sequence."""

    enabled: bool = True
    cross_document_attention: bool = False


class Masking(Part):
    """Corruption for encoders and encoder-decoders."""

    name: Annotated[str, Field(max_length=16)]
    probability: Probability = 0.15


class Data(Part):
    """Token shards, as `footplate-trainer pack` writes them."""

    uri: Uri | None = None
    sources: Annotated[list[Source], Field(max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = 0
    tokenizer: Tokenizer | None = None
    packing: Packing = Packing()
    masking: Masking | None = None

    rules: ClassVar = (
        refuse("sources"),
        refuse("tokenizer"),
        refuse("masking"),
        required("uri", "the folder that footplate-trainer pack wrote"),
        local_path("uri"),
    )


class Validation(Part):
    """Loss on held-out shards while training."""

    every_steps: Count
    uri: Uri
    batches: Count = 50
