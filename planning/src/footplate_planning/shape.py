"""Complete shape of a network, and every weight that follows from it.

Pure: model code builds from it, the plan counts with it, and the names of
another library's files follow from it. `config.model_shape` fills it in from a
RunConfig.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from math import prod
from typing import Final

from footplate_contracts.v1alpha1.model import (
    Activation,
    Architecture,
    AttentionBackend,
    NormName,
    PositionName,
    RopeScaling,
)

ROWS: Final = 0
COLUMNS: Final = 1
IN_BLOCKS: Final = "blocks.*"  # matches every linear layer that a block has


@dataclass(frozen=True)
class AdapterShape:
    """Low-rank adapters beside some linear layers: W x + alpha / rank B A x (Hu et al. 2021)."""

    rank: int
    alpha: float
    dropout: float = 0.0  # of what they read
    targets: tuple[str, ...] = (IN_BLOCKS,)

    def parameters(self, inputs: int, outputs: int) -> int:
        """Count the weights of A and B beside one layer."""
        return self.rank * (inputs + outputs)


def is_target(layer: str, pattern: str) -> bool:
    """Return whether `pattern` is the name of `layer` or its end behind a dot; * stands for any text."""
    return fnmatchcase(layer, pattern) or fnmatchcase(layer, f"*.{pattern}")


@dataclass(frozen=True)
class ModelShape:
    """Shape of a network; with sizes alone, a Llama-style decoder."""

    layers: int  # blocks; of an encoder-decoder, the encoder's
    hidden: int
    feed_forward: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    context: int
    tied_embeddings: bool = False
    norm_epsilon: float = 1e-5
    rope_theta: float = 10000.0
    architecture: Architecture = Architecture.DECODER
    decoder_layers: int = 0  # of an encoder-decoder
    norm: NormName = NormName.RMS
    activation: Activation = Activation.SWIGLU
    position: PositionName = PositionName.ROPE
    rope_scaling: RopeScaling | None = None
    query_key_value_bias: bool = False
    output_bias: bool = False
    feed_forward_bias: bool = False
    attention_backend: AttentionBackend = AttentionBackend.AUTO
    sliding_window: int | None = None
    token_types: int = 0
    relative_buckets: int = 32
    relative_distance: int = 128
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0
    embedding_noise: float = 0.0  # NEFTune's alpha
    labels: int = 0  # scores that a sequence is given, by a head in the vocabulary's place; 0: there is none
    adapter: AdapterShape | None = None

    @property
    def is_gated(self) -> bool:
        """True if the feed-forward layer has a gate, and so three matrices."""
        return self.activation in (Activation.SWIGLU, Activation.GEGLU)

    @property
    def blocks(self) -> int:
        """All blocks of the chain, an encoder's before its decoder's."""
        return self.layers + self.decoder_layers

    @property
    def norm_parameters(self) -> int:
        """Weights of one norm: a scale, and LayerNorm's shift."""
        return self.hidden * (2 if self.norm is NormName.LAYER else 1)

    def block_parameters(self, number: int) -> int:
        """Count the weights in block `number`."""
        return _numbers(block_weights(self, number))

    @property
    def embedding_parameters(self) -> int:
        """Weights before the first block, and tables of biases that many blocks share."""
        return _numbers(weights_before_blocks(self))

    @property
    def head_parameters(self) -> int:
        """Weights behind a chain of blocks; a tied projection is the embedding's."""
        return _numbers(weights_behind_blocks(self))

    @property
    def projection(self) -> int:
        """Numbers of the matrix that reads the last hidden states; a tied one is the embedding's."""
        return (self.labels or self.vocabulary) * self.hidden

    @property
    def parameters(self) -> int:
        """All weights but an adapter's; a tied output head is counted once."""
        blocks = sum(self.block_parameters(number) for number in range(self.blocks))
        return self.embedding_parameters + blocks + self.head_parameters

    @property
    def adapter_parameters(self) -> int:
        """Weights that adapters add."""
        adapter = self.adapter
        if adapter is None:
            return 0
        return sum(adapter.parameters(*sizes) for sizes in self.adapted_layers().values())

    @property
    def trained_parameters(self) -> int:
        """Weights that training moves: the adapters' and a head of scores, or all where there are none."""
        if self.adapter is None:
            return self.parameters
        return self.adapter_parameters + self.labels * self.hidden

    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """Return (inputs, outputs) of each linear layer, by its name in the network."""
        blocks = (block_weights(self, number) for number in range(self.blocks))
        return {
            weight.name.removesuffix(".weight"): (weight.shape[1], weight.shape[0])
            for weight in chain(*blocks, weights_behind_blocks(self))
            if weight.linear
        }

    def adapted_layers(self) -> dict[str, tuple[int, int]]:
        """Return the linear layers that have an adapter."""
        targets = self.adapter.targets if self.adapter else ()
        return {
            name: sizes
            for name, sizes in self.linear_layers().items()
            if any(is_target(name, pattern) for pattern in targets)
        }


@dataclass(frozen=True)
class Weight:
    """Parameter of a network, and how ranks may share it."""

    name: str
    shape: tuple[int, ...]
    cut: int | None = None  # the dimension that tensor ranks share; None where each has the whole
    heads: int | None = None  # that it holds, where more ranks than these have the whole each
    linear: bool = False  # the matrix of a linear layer, [outputs, inputs]

    def local_shape(self, tensor: int) -> tuple[int, ...]:
        """Return its shape on one of `tensor` ranks."""
        return tuple(size // tensor if axis == self.cut else size for axis, size in enumerate(self.shape))

    def shard(self, tensor: int, shards: int) -> int:
        """Count the numbers in the first and largest of `shards` pieces of rows of one tensor rank's part."""
        rows, *others = self.local_shape(tensor)
        return -(-rows // shards) * prod(others)


def _numbers(weights: Iterable[Weight]) -> int:
    return sum(prod(weight.shape) for weight in weights)


def block_weights(shape: ModelShape, number: int) -> Iterator[Weight]:
    """Yield the weights of block `number`; a decoder's behind an encoder have cross-attention and a norm."""
    prefix, inner, bias = f"blocks.{number}", shape.feed_forward, shape.feed_forward_bias
    yield from _norm(shape, f"{prefix}.attention_norm")
    yield from _attention(shape, f"{prefix}.attention")
    if number >= shape.layers:
        yield from _norm(shape, f"{prefix}.cross_attention_norm")
        yield from _attention(shape, f"{prefix}.cross_attention")
    yield from _norm(shape, f"{prefix}.feed_forward_norm")
    for name in ("gate", "up") if shape.is_gated else ("up",):
        yield from _linear(f"{prefix}.feed_forward.{name}", inner, shape.hidden, bias, ROWS)
    yield from _linear(f"{prefix}.feed_forward.down", shape.hidden, inner, bias, COLUMNS)


def weights_before_blocks(shape: ModelShape) -> Iterator[Weight]:
    """Yield the weights before the first block, and the tables of relative positions."""
    yield Weight("embedding.weight", (shape.vocabulary, shape.hidden), ROWS)
    if shape.position is PositionName.LEARNED:
        yield Weight("positions.weight", (shape.context, shape.hidden))
    if shape.position is PositionName.RELATIVE:
        table = (shape.relative_buckets, shape.heads)
        yield Weight("encoder_bias.weight", table, COLUMNS)
        yield Weight("decoder_bias.weight", table, COLUMNS)
    if shape.token_types:
        yield Weight("token_types.weight", (shape.token_types, shape.hidden))
    if shape.architecture is Architecture.ENCODER:
        yield from _norm(shape, "embedding_norm")


def weights_behind_blocks(shape: ModelShape) -> Iterator[Weight]:
    """Yield the weights behind the last block, and behind the encoder's last where a decoder follows."""
    if shape.architecture is Architecture.ENCODER_DECODER:
        yield from _norm(shape, "encoder_norm")
    yield from _norm(shape, "norm")
    if shape.architecture is Architecture.ENCODER:
        yield from _linear("transform", shape.hidden, shape.hidden, bias=True, cut=None)
        yield Weight("head_bias", (shape.vocabulary,), ROWS)
    if shape.labels:  # of a few rows, which ranks have whole; no adapter stands beside it, as all of it moves
        yield Weight("score.weight", (shape.labels, shape.hidden))
    elif not shape.tied_embeddings:
        yield Weight("head.weight", (shape.vocabulary, shape.hidden), ROWS, linear=True)


def _attention(shape: ModelShape, prefix: str) -> Iterator[Weight]:
    query, key_value = shape.heads * shape.head_size, shape.key_value_heads * shape.head_size
    bias = shape.query_key_value_bias
    yield from _linear(f"{prefix}.query", query, shape.hidden, bias, ROWS)
    for name in ("key", "value"):
        yield from _linear(f"{prefix}.{name}", key_value, shape.hidden, bias, ROWS, shape.key_value_heads)
    yield from _linear(f"{prefix}.output", shape.hidden, query, shape.output_bias, COLUMNS)


def _linear(
    name: str, rows: int, columns: int, bias: bool, cut: int | None, heads: int | None = None
) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", (rows, columns), cut, heads, linear=True)
    if bias:  # added behind the sum where columns are cut
        yield Weight(f"{name}.bias", (rows,), ROWS if cut == ROWS else None, heads)


def _norm(shape: ModelShape, name: str) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", (shape.hidden,))
    if shape.norm is NormName.LAYER:
        yield Weight(f"{name}.bias", (shape.hidden,))
