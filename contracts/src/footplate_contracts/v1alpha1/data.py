"""`spec.data` and `spec.validation`: token shards, their order and their masks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Rule, positive, required_rule
from footplate_contracts.v1alpha1.references import GenerateRunReference
from footplate_contracts.v1alpha1.types import ApiModel, Count, Label, Probability, Uri, hostless_file_rule


class Source(ApiModel):
    """Part of a mixture."""

    name: Label = Field(description="name of the source in metrics")
    uri: Uri = Field(description="folder of shards")
    weight: Annotated[float, Field(ge=0.0, le=1e6)] = Field(1.0, description="relative share of the samples")

    rules: ClassVar = (positive("weight"), hostless_file_rule("uri"))


class Tokenizer(ApiModel):
    """A tokenizer other than the one beside the shards."""

    uri: Uri = Field(description="folder with tokenizer.json")

    rules: ClassVar = (hostless_file_rule("uri"),)


class Packing(ApiModel):
    """Documents in one sequence."""

    enabled: bool = Field(True, description="true: documents share sequences; false: one per sequence")
    cross_document_attention: bool = Field(
        False, description="true: tokens attend to earlier documents of their sequence"
    )


class MaskingName(StrEnum):
    """Kind of corruption of a text."""

    MLM = "mlm"
    SPAN = "span"


class Masking(ApiModel):
    """Corruption for encoders (mlm) and encoder-decoders (span)."""

    name: MaskingName = Field(description="mlm: BERT's masked tokens; span: T5's spans and sentinels")
    probability: Probability = Field(0.15, description="share of tokens to hide")
    mean_span_length: Annotated[float, Field(ge=1.0, le=1000.0)] = Field(
        3.0, description="mean tokens per hidden span; span only"
    )

    rules: ClassVar = (
        Rule(
            "self.probability > 0.0 && self.probability < 1.0",
            "probability must be above 0 and below 1, not {self.probability}",
            field="probability",
        ),
    )


class LossMask(StrEnum):
    """Tokens of a conversation that the loss counts."""

    ASSISTANT = "assistant"  # each turn of the assistant
    COMPLETION = "completion"  # those behind the prompt; without a prompt the last one
    ALL = "all"  # every token


class OverlongPolicy(StrEnum):
    """Treatment of a sample that is longer than model.contextLength."""

    REFUSE = "refuse"
    DROP = "drop"
    CUT = "cut"  # behind its last whole turn that fits


class Data(ApiModel):
    """Token shards, as `footplate-trainer pack` writes them."""

    uri: Uri | None = Field(None, description="folder that footplate-trainer pack wrote")
    sources: Annotated[list[Source], Field(min_length=1, max_length=64)] | None = Field(
        None, description="mixture of folders, instead of uri"
    )
    run: GenerateRunReference | None = Field(
        None, description="run whose generated answers are the data, instead of uri"
    )
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = Field(
        0, description="seed of the sample order, which does not depend on the number of processes"
    )
    tokenizer: Tokenizer | None = Field(
        None, description="tokenizer to keep with checkpoints instead of the one beside the shards"
    )
    packing: Packing = Packing()
    masking: Masking | None = Field(
        None, description="default: mlm for an encoder, span for an encoder-decoder, at 0.15"
    )
    mask: LossMask | None = Field(
        None,
        description="sft: tokens that count in the loss, all or as packed; dpo with loss orpo: tokens of"
        " chosen answers to make likelier; default: as packed",
    )
    overlong: OverlongPolicy | None = Field(
        None,
        description="sft, reward and dpo: what happens to samples longer than model.contextLength: refuse,"
        " drop, or, sft only, cut after the last whole turn that fits; default: refuse",
    )

    rules: ClassVar = (
        required_rule(
            "has(self.uri) || has(self.sources) || has(self.run)",
            "uri is required: the folder that footplate-trainer pack wrote; or sources, for a mixture",
            field="uri",
        ),
        Rule(
            "!has(self.uri) || !has(self.sources)",
            "uri {self.uri} and sources are both set; list all folders of a mixture in sources",
            field="sources",
        ),
        Rule(
            "!has(self.run) || (!has(self.uri) && !has(self.sources))",
            "run {self.run.name} is set together with uri or sources; use one of them",
            field="run",
        ),
        Rule(
            "!has(self.sources) || self.sources.all(a, self.sources.exists_one(b, b.name == a.name))",
            "two sources have the same name; sources need distinct names, for their order and in metrics",
            field="sources",
        ),
        hostless_file_rule("uri"),
    )


class Validation(ApiModel):
    """Loss on held-out shards while training."""

    every_steps: Count = Field(description="steps between validations")
    uri: Uri = Field(description="folder of held-out shards")
    batches: Count = Field(50, description="global batches per validation, always the same ones")

    rules: ClassVar = (hostless_file_rule("uri"),)
