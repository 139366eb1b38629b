"""`spec.model`: the shape of the network.

Most fields may be left out; `footplate_contracts.families` fills them in. Rules here
refuse by name the fields that later releases will support.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Rule, required_rule
from footplate_contracts.v1alpha1.adapter import Adapter
from footplate_contracts.v1alpha1.references import RunReference
from footplate_contracts.v1alpha1.types import ApiModel, Probability, Uri, hostless_file_rule


class Architecture(StrEnum):
    """Chain of blocks."""

    DECODER = "decoder"
    ENCODER = "encoder"
    ENCODER_DECODER = "encoder-decoder"


class Family(StrEnum):
    """Published model whose settings are the defaults."""

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


class Norm(ApiModel):
    """Normalisation of each sub-layer."""

    name: NormName | None = Field(None, description="kind of normalization; default: the family's")
    epsilon: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        None, description="number added to the mean square before the root; default: the family's"
    )


class Activation(StrEnum):
    """Feed-forward non-linearity; the -glu ones have three matrices."""

    SWIGLU = "swiglu"
    GEGLU = "geglu"  # with the gelu of GELU_TANH
    GELU = "gelu"
    GELU_TANH = "gelu_pytorch_tanh"
    RELU = "relu"


class Bias(ApiModel):
    """Biases of linear layers; default: the family's."""

    query_key_value: bool | None = Field(None, description="biases of the query, key and value projections")
    output: bool | None = Field(None, description="bias of attention's output projection")
    feed_forward: bool | None = Field(None, description="biases of the feed-forward matrices")


class PositionName(StrEnum):
    """Kind of position encoding."""

    ROPE = "rope"
    LEARNED = "learned"
    RELATIVE = "relative"


class RopeScalingName(StrEnum):
    """Method of stretching rotary frequencies."""

    LLAMA3 = "llama3"


class RopeScaling(ApiModel):
    """Stretching of rotary frequencies beyond the trained context: short waves stay, long ones slow down."""

    name: RopeScalingName = RopeScalingName.LLAMA3
    factor: Annotated[float, Field(ge=1.0, le=1000.0)] = Field(description="new over trained context length")
    low_frequency_factor: Annotated[float, Field(ge=0.001, le=1000.0)] = Field(
        1.0, description="frequencies with fewer waves in the original context are divided by factor"
    )
    high_frequency_factor: Annotated[float, Field(ge=0.001, le=1000.0)] = Field(
        4.0, description="frequencies with more waves in it stay unchanged"
    )
    original_context_length: Annotated[int, Field(ge=1, le=16_777_216)] = Field(
        8192, description="tokens of a sequence before the scaling"
    )

    rules: ClassVar = (
        Rule(
            "self.lowFrequencyFactor < self.highFrequencyFactor",
            "lowFrequencyFactor {self.lowFrequencyFactor} must be below highFrequencyFactor"
            " {self.highFrequencyFactor}",
            field="lowFrequencyFactor",
        ),
    )


class Position(ApiModel):
    """Position encoding."""

    name: PositionName | None = Field(None, description="kind of position encoding; default: the family's")
    theta: Annotated[float, Field(ge=1.0, le=1e9)] = Field(
        10000.0, description="base of the rotary frequencies"
    )
    scaling: RopeScaling | None = Field(None, description="scaling of rotary frequencies")
    buckets: Annotated[int, Field(ge=4, le=1024)] = Field(
        32, description="relative: number of distance buckets; a multiple of 4"
    )
    max_distance: Annotated[int, Field(ge=2, le=1_000_000)] = Field(
        128, description="relative: distance in tokens beyond which all share one bucket"
    )

    rules: ClassVar = (
        Rule(
            "self.buckets % 4 == 0 && self.maxDistance > self.buckets / 2",
            "buckets {self.buckets} must be a multiple of 4 and at most twice maxDistance {self.maxDistance}",
            field="buckets",
        ),
    )


class AttentionBackend(StrEnum):
    """Attention kernel."""

    AUTO = "auto"
    SDPA = "sdpa"
    EAGER = "eager"


class Attention(ApiModel):
    """Kernel and reach of attention."""

    backend: AttentionBackend = Field(
        AttentionBackend.AUTO,
        description="sdpa and auto: torch's fused kernels; eager: all scores at once, for comparisons",
    )
    sliding_window: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None, description="tokens that a token attends to, including itself; decoders only"
    )


class Dropout(ApiModel):
    """Probabilities of dropping; what is dropped depends on training.seed, not on the layout."""

    hidden: Probability = Field(0.0, description="dropout after each sub-layer")
    attention: Probability = Field(0.0, description="dropout of attention weights")
    embedding: Probability = Field(0.0, description="dropout of token embeddings")

    rules: ClassVar = tuple(
        Rule(f"self.{field} < 1.0", f"{field} must be below 1, not {{self.{field}}}", field=field)
        for field in ("hidden", "attention", "embedding")
    )


class Initialization(ApiModel):
    """Normal initialisation of matrices."""

    standard_deviation: Annotated[float, Field(ge=0.0, le=10.0)] = Field(0.02, description="of every matrix")


class InitFormat(StrEnum):
    """Format of a folder of weights."""

    HUGGING_FACE = "huggingface"


class InitFrom(ApiModel):
    """Weights, and with them the shape, from a folder or from a checkpoint of another run."""

    uri: Uri | None = Field(
        None,
        description="folder with config.json and *.safetensors, or a run's checkpoint folder, anywhere data"
        " may be stored",
    )
    run: RunReference | None = Field(None, description="checkpoint of another run, instead of uri")
    format: InitFormat = InitFormat.HUGGING_FACE

    rules: ClassVar = (
        hostless_file_rule("uri"),
        required_rule(
            "has(self.uri) || has(self.run)",
            "uri is required: a folder with config.json and *.safetensors; or run, for a checkpoint of"
            " another run",
            field="uri",
        ),
        Rule(
            "!has(self.uri) || !has(self.run)",
            "uri {self.uri} and run {self.run.name} are both set; the weights can come from only one of them",
            field="uri",
        ),
    )

    @property
    def place(self) -> str:
        """Folder of the weights; ValueError for another run that was not resolved to a checkpoint."""
        if self.uri is None:
            raise ValueError("initFrom has no folder")
        return self.uri


def architecture_of(model: str) -> str:
    """Return CEL for the architecture of the Model at `model`, stated by it or implied by its family."""
    family = f"has({model}.family) && {model}.family"
    return (
        f"(has({model}.architecture) ? {model}.architecture : {family} == 'bert' ? 'encoder'"
        f" : {family} == 't5' ? 'encoder-decoder' : 'decoder')"
    )


_ARCHITECTURE = architecture_of("self")
_SIZED = "(has(self.hiddenSize) && has(self.attentionHeads))"
_HEAD_SIZE = f"has(self.headSize) ? self.headSize : {_SIZED} ? self.hiddenSize / self.attentionHeads : 0"
# CEL: whether positions are rotary, by name or by the family.
_ROPES = (
    "(has(self.position.name) ? self.position.name == 'rope'"
    f" : {_ARCHITECTURE} == 'decoder' && !(has(self.family) && self.family == 'gpt2'))"
)


def _suits(what: str, absent: str, remedy: str, *architectures: str) -> Rule:
    """Return the rule that `what`, unless CEL `absent` holds, is for some architectures only."""
    field = what.split()[0]
    suited = ", ".join(f"'{architecture}'" for architecture in architectures)
    return Rule(
        f"{absent} || {_ARCHITECTURE} in [{suited}]",
        f"{what} does not work with architecture {{{_ARCHITECTURE}}}; {remedy}",
        field=field,
    )


def _position(name: str, remedy: str, *architectures: str) -> Rule:
    absent = f"!has(self.position.name) || self.position.name != '{name}'"
    return _suits(f"position.name {name}", absent, remedy, *architectures)


class Model(ApiModel):
    """The network; sizes in units, not in bytes."""

    architecture: Architecture | None = Field(None, description="default: the family's, or decoder")
    family: Family | None = Field(
        None, description="default: llama for a decoder, bert for an encoder, t5 for an encoder-decoder"
    )
    layers: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None,
        description="transformer blocks, or the encoder's in an encoder-decoder; required without initFrom",
    )
    decoder_layers: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="number of the decoder's blocks in an encoder-decoder; default: layers"
    )
    hidden_size: Annotated[int, Field(ge=1, le=131_072)] | None = Field(
        None, description="width of the residual stream; required without initFrom"
    )
    feed_forward_size: Annotated[int, Field(ge=1, le=1_048_576)] | None = Field(
        None,
        description="width; default: 4 x hiddenSize; with a gate, 8/3 of it, rounded up to a multiple of 32",
    )
    attention_heads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="query heads per layer; required without initFrom"
    )
    key_value_heads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="1 is multi-query, more grouped-query attention; default: attentionHeads"
    )
    head_size: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None, description="width of a head; default: hiddenSize / attentionHeads"
    )
    vocabulary_size: Annotated[int, Field(ge=2, le=16_777_216)] | None = Field(
        None, description="number of token ids, at least the data's; required without initFrom"
    )
    resize_token_embeddings: bool | None = Field(
        None,
        description="true: vocabularySize may exceed that of initFrom; new rows of the embedding, and of an"
        " untied head, start as the mean of the others",
    )
    context_length: Annotated[int, Field(ge=1, le=16_777_216)] = Field(description="tokens of a sequence")
    tied_embeddings: bool | None = Field(
        None, description="true: input and output embedding share one matrix; default: the family's"
    )
    token_types: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None, description="number of segment types of an encoder; default: the family's"
    )
    norm: Norm = Norm()
    activation: Activation | None = Field(None, description="feed-forward activation; default: the family's")
    bias: Bias = Bias()
    position: Position = Position()
    attention: Attention = Attention()
    dropout: Dropout = Dropout()
    initialization: Initialization = Initialization()
    adapter: Adapter | None = Field(
        None, description="low-rank matrices beside linear layers, which alone are trained"
    )

    rules: ClassVar = (
        Rule(
            "!has(self.architecture) || !has(self.family)"
            " || (self.family == 'bert' ? self.architecture == 'encoder'"
            " : self.family == 't5' ? self.architecture == 'encoder-decoder'"
            " : self.architecture == 'decoder')",
            "family {has(self.family) ? self.family : ''} is not of architecture"
            " {has(self.architecture) ? self.architecture : ''}; remove one of them",
            field="architecture",
        ),
        Rule(
            f"!{_SIZED} || has(self.headSize) || self.hiddenSize % self.attentionHeads == 0",
            "hiddenSize {self.hiddenSize} is not a multiple of attentionHeads {self.attentionHeads}; change"
            " one of them, or set headSize",
            field="hiddenSize",
        ),
        Rule(
            "!has(self.keyValueHeads) || !has(self.attentionHeads)"
            " || (self.keyValueHeads <= self.attentionHeads"
            " && self.attentionHeads % self.keyValueHeads == 0)",
            "attentionHeads {self.attentionHeads} is not a multiple of keyValueHeads {self.keyValueHeads};"
            " each key/value head serves the same number of attention heads",
            field="keyValueHeads",
        ),
        Rule(
            f"!{_ROPES} || (has(self.headSize) ? self.headSize % 2 == 0"
            f" : !{_SIZED} || self.hiddenSize % self.attentionHeads != 0"
            " || (self.hiddenSize / self.attentionHeads) % 2 == 0)",
            f"rotary positions need an even head size, not {{{_HEAD_SIZE}}};"
            " change hiddenSize, attentionHeads or headSize",
            field="hiddenSize",
        ),
        _position("rope", "remove it", "decoder"),
        _position("learned", "remove it", "decoder", "encoder"),
        _position("relative", "use rope or learned", "encoder-decoder"),
        Rule(
            f"!has(self.position.scaling) || {_ROPES}",
            "position.scaling scales rotary frequencies, and the model has none; remove it",
            field="position.scaling",
        ),
        Rule(
            "!has(self.adapter) || !has(self.hiddenSize) || self.adapter.rank <= self.hiddenSize",
            "adapter.rank {has(self.adapter) ? self.adapter.rank : 0} is above hiddenSize"
            " {has(self.hiddenSize) ? self.hiddenSize : 0}; lower it, since only low ranks save memory",
            field="adapter.rank",
        ),
        required_rule(
            "!has(self.resizeTokenEmbeddings) || !self.resizeTokenEmbeddings || has(self.vocabularySize)",
            "vocabularySize is required with resizeTokenEmbeddings: the new number of rows",
            field="vocabularySize",
        ),
        _suits("attention.slidingWindow", "!has(self.attention.slidingWindow)", "remove it", "decoder"),
        _suits("decoderLayers", "!has(self.decoderLayers)", "remove it", "encoder-decoder"),
        _suits("tokenTypes", "!has(self.tokenTypes) || self.tokenTypes == 0", "remove it", "encoder"),
    )
