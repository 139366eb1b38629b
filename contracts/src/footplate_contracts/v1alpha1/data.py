"""`spec.data` and `spec.validation`: which tokens, in which order."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import refuse, required
from footplate_contracts.v1alpha1.types import Count, Label, Part, Probability, Uri, local_path


class Source(Part):
    """One part of a mixture."""

    name: Label = Field(description="how metrics call it")
    uri: Uri = Field(description="a folder of shards")
    weight: Annotated[float, Field(ge=0.0, le=1e6)] = Field(
        1.0, description="share of the samples, relative to the others"
    )


class Tokenizer(Part):
    """A tokenizer other than the one beside the shards."""

    uri: Uri = Field(description="a folder with tokenizer.json")


class Packing(Part):
    """How documents share a sequence."""

    enabled: bool = Field(True, description="documents share sequences; false: one document a sequence")
    cross_document_attention: bool = Field(
        False, description="a token may look into the documents before its own"
    )


class Masking(Part):
    """Corruption for encoders and encoder-decoders."""

    name: Annotated[str, Field(max_length=16)] = Field(description="mlm or span")
    probability: Probability = Field(0.15, description="share of tokens that is hidden")


class Data(Part):
    """Token shards, as `footplate-trainer pack` writes them."""

    uri: Uri | None = Field(None, description="the folder that footplate-trainer pack wrote")
    sources: Annotated[list[Source], Field(max_length=64)] | None = Field(
        None, description="a mixture of folders, instead of uri"
    )
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = Field(
        0, description="decides the order of the samples, whatever the number of processes"
    )
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

    every_steps: Count = Field(description="how often")
    uri: Uri = Field(description="a folder of held-out shards")
    batches: Count = Field(50, description="global batches each time, the same ones; or all that there are")

    rules: ClassVar = (local_path("uri"),)
