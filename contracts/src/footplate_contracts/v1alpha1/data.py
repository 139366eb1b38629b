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

    name: Label = Field(description="how metrics call it")
    uri: Uri = Field(description="a folder of shards")
    weight: Annotated[float, Field(ge=0.0, le=1e6)] = Field(
        1.0, description="share of the samples, relative to the others"
    )

    rules: ClassVar = (positive("weight"), hostless_file_rule("uri"))


class Tokenizer(ApiModel):
    """A tokenizer other than the one beside the shards."""

    uri: Uri = Field(description="a folder with tokenizer.json")

    rules: ClassVar = (hostless_file_rule("uri"),)


class Packing(ApiModel):
    """Documents in one sequence."""

    enabled: bool = Field(True, description="documents share sequences; false: one document a sequence")
    cross_document_attention: bool = Field(
        False, description="a token may look into the documents before its own"
    )


class MaskingName(StrEnum):
    """Kind of corruption of a text."""

    MLM = "mlm"
    SPAN = "span"


class Masking(ApiModel):
    """Corruption for encoders (mlm) and encoder-decoders (span)."""

    name: MaskingName = Field(description="mlm: BERT's masked tokens; span: T5's spans and sentinels")
    probability: Probability = Field(0.15, description="share of tokens that is hidden")
    mean_span_length: Annotated[float, Field(ge=1.0, le=1000.0)] = Field(
        3.0, description="tokens of a hidden span on average; span only"
    )

    rules: ClassVar = (
        Rule(
            "self.probability > 0.0 && self.probability < 1.0",
            "probability must lie between 0 and 1, not at {self.probability}",
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

    uri: Uri | None = Field(None, description="the folder that footplate-trainer pack wrote")
    sources: Annotated[list[Source], Field(min_length=1, max_length=64)] | None = Field(
        None, description="a mixture of folders, instead of uri"
    )
    run: GenerateRunReference | None = Field(
        None, description="answers that another run generated, instead of uri"
    )
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = Field(
        0, description="decides the order of the samples, whatever the number of processes"
    )
    tokenizer: Tokenizer | None = Field(
        None, description="kept with checkpoints instead of the one beside the shards"
    )
    packing: Packing = Packing()
    masking: Masking | None = Field(
        None, description="default: mlm for an encoder, span for an encoder-decoder, at 0.15"
    )
    mask: LossMask | None = Field(
        None,
        description="of sft: tokens that are learnt, as packed or all; of dpo with loss orpo: tokens of"
        " chosen answers that are made likelier; default: as packed",
    )
    overlong: OverlongPolicy | None = Field(
        None,
        description="of sft, reward and dpo: samples above model.contextLength are refused, dropped, or, of"
        " sft, cut behind their last whole turn that fits; default: refuse",
    )

    rules: ClassVar = (
        required_rule(
            "has(self.uri) || has(self.sources) || has(self.run)",
            "uri is required: the folder that footplate-trainer pack wrote; or sources, for a mixture",
            field="uri",
        ),
        Rule(
            "!has(self.uri) || !has(self.sources)",
            "uri {self.uri} and sources are both given; a mixture names all its folders in sources",
            field="sources",
        ),
        Rule(
            "!has(self.run) || (!has(self.uri) && !has(self.sources))",
            "run {self.run.name} and folders are both given; its answers are all the data there is",
            field="run",
        ),
        Rule(
            "!has(self.sources) || self.sources.all(a, self.sources.exists_one(b, b.name == a.name))",
            "two sources have one name; the name decides a source's order and tells its samples apart",
            field="sources",
        ),
        hostless_file_rule("uri"),
    )


class Validation(ApiModel):
    """Loss on held-out shards while training."""

    every_steps: Count = Field(description="how often")
    uri: Uri = Field(description="a folder of held-out shards")
    batches: Count = Field(50, description="global batches each time, the same ones; or all that there are")

    rules: ClassVar = (hostless_file_rule("uri"),)
