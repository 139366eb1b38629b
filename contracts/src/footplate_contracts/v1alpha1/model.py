"""`spec.model`: the shape of the network.

Most fields may be left out; `footplate_contracts.resolve` fills them in from
the family. A field that later releases will act upon is refused by name here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Rule, only, only_at, refuse
from footplate_contracts.v1alpha1.types import Part, Probability


class Architecture(StrEnum):
    """Which chain of blocks."""

    DECODER = "decoder"
    ENCODER = "encoder"
    ENCODER_DECODER = "encoderDecoder"


class Family(StrEnum):
    """Whose habits fill in what is not stated."""

    LLAMA = "llama"
    MISTRAL = "mistral"
    QWEN2 = "qwen2"
    GPT2 = "gpt2"
    BERT = "bert"
    T5 = "t5"


class NormName(StrEnum):
    """Normalisation."""

    RMS = "rms"
    LAYER = "layer"


class Norm(Part):
    """Normalisation before each sub-layer."""

    name: NormName = NormName.RMS
    epsilon: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        1e-5, description="added to the mean square before the root"
    )

    rules: ClassVar = (only("name", "rms"),)


class Activation(StrEnum):
    """Feed-forward non-linearity; the -glu ones have three matrices."""

    SWIGLU = "swiglu"
    GEGLU = "geglu"
    GELU = "gelu"
    RELU = "relu"


class Bias(Part):
    """Which linear layers carry a bias."""

    query_key_value: bool = Field(False, description="in the projections to queries, keys and values")
    output: bool = Field(False, description="in attention's output projection")
    feed_forward: bool = Field(False, description="in the feed-forward matrices")

    rules: ClassVar = tuple(only_at(field, "false") for field in ("queryKeyValue", "output", "feedForward"))


class PositionName(StrEnum):
    """How a token learns where it stands."""

    ROPE = "rope"
    LEARNED = "learned"
    RELATIVE = "relative"


class RopeScaling(Part):
    """Stretching of rotary frequencies beyond the trained context."""

    name: Annotated[str, Field(max_length=32)] = Field(description="such as llama3")
    factor: Annotated[float, Field(ge=1.0, le=1000.0)] = Field(description="new context over trained context")


class Position(Part):
    """Position encoding."""

    name: PositionName = PositionName.ROPE
    theta: Annotated[float, Field(ge=1.0, le=1e9)] = Field(
        10000.0, description="base of the rotary frequencies"
    )
    scaling: RopeScaling | None = None

    rules: ClassVar = (only("name", "rope"), refuse("scaling"))


class AttentionBackend(StrEnum):
    """Which attention kernel."""

    AUTO = "auto"
    SDPA = "sdpa"
    FLEX = "flex"
    EAGER = "eager"


class Attention(Part):
    """Kernel and reach of attention."""

    backend: AttentionBackend = AttentionBackend.AUTO
    sliding_window: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None, description="tokens that a token looks back at"
    )

    rules: ClassVar = (only("backend", "auto", "sdpa"), refuse("slidingWindow"))


class Dropout(Part):
    """Probabilities of dropping."""

    hidden: Probability = Field(0.0, description="after each sub-layer")
    attention: Probability = Field(0.0, description="of attention weights")
    embedding: Probability = Field(0.0, description="of token embeddings")

    rules: ClassVar = tuple(only_at(field, "0.0") for field in ("hidden", "attention", "embedding"))


class Initialization(Part):
    """Normal initialisation of matrices."""

    standard_deviation: Annotated[float, Field(ge=0.0, le=10.0)] = Field(0.02, description="of every matrix")


class InitFrom(Part):
    """Weights, and with them the shape, from a folder."""

    uri: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="the folder")
    format: Annotated[str, Field(max_length=32)] = Field("huggingface", description="how it is laid out")


class Model(Part):
    """The network; sizes in units, not in bytes."""

    architecture: Architecture = Architecture.DECODER
    family: Family = Family.LLAMA
    layers: Annotated[int, Field(ge=1, le=1024)] = Field(description="transformer blocks")
    hidden_size: Annotated[int, Field(ge=1, le=131_072)] = Field(description="width of the residual stream")
    feed_forward_size: Annotated[int, Field(ge=1, le=1_048_576)] | None = Field(
        None, description="default: 8/3 of hiddenSize, rounded up to a multiple of 32 (llama)"
    )
    attention_heads: Annotated[int, Field(ge=1, le=1024)] = Field(description="query heads of a layer")
    key_value_heads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="default: attentionHeads; 1 is multi-query, between is grouped-query attention"
    )
    head_size: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None, description="default: hiddenSize / attentionHeads"
    )
    vocabulary_size: Annotated[int, Field(ge=2, le=16_777_216)] = Field(
        description="token ids; as the data was packed"
    )
    context_length: Annotated[int, Field(ge=1, le=16_777_216)] = Field(description="tokens of a sequence")
    tied_embeddings: bool = Field(False, description="input and output embedding are one matrix")
    norm: Norm = Norm()
    activation: Activation = Activation.SWIGLU
    bias: Bias = Bias()
    position: Position = Position()
    attention: Attention = Attention()
    dropout: Dropout = Dropout()
    initialization: Initialization = Initialization()

    rules: ClassVar = (
        only("architecture", "decoder"),
        only("family", "llama"),
        only("activation", "swiglu"),
        Rule(
            "has(self.headSize) || self.hiddenSize % self.attentionHeads == 0",
            "hiddenSize {self.hiddenSize} is not a multiple of attentionHeads {self.attentionHeads};"
            " change one of them, or state headSize",
            field="hiddenSize",
        ),
        Rule(
            "!has(self.keyValueHeads) || (self.keyValueHeads <= self.attentionHeads"
            " && self.attentionHeads % self.keyValueHeads == 0)",
            "attentionHeads {self.attentionHeads} is not a multiple of keyValueHeads {self.keyValueHeads};"
            " each key/value head serves the same number of attention heads",
            field="keyValueHeads",
        ),
        Rule(
            "self.position.name != 'rope' || (has(self.headSize) ? self.headSize % 2 == 0"
            " : self.hiddenSize % self.attentionHeads != 0"
            " || (self.hiddenSize / self.attentionHeads) % 2 == 0)",
            "rotary positions need an even head size, not {has(self.headSize) ? self.headSize"
            " : self.hiddenSize / self.attentionHeads}; change hiddenSize, attentionHeads or headSize",
            field="hiddenSize",
        ),
    )
