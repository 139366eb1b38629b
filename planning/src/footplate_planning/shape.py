"""The shape of a network, with nothing left to guess, and its arithmetic.

Pure: model code builds from it, the plan counts with it, and the names of
another library's files follow from it. It is filled in from a RunConfig by
`config.model_shape`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from footplate_contracts.v1alpha1.model import (
    Activation,
    Architecture,
    AttentionBackend,
    NormName,
    PositionName,
    RopeScaling,
)

IN_BLOCKS: Final = "blocks.*"  # matches every linear layer that a block has


@dataclass(frozen=True)
class AdapterShape:
    """Low-rank adapters beside some linear layers: W x + alpha / rank B A x (Hu et al. 2021)."""

    rank: int
    alpha: float
    dropout: float = 0.0  # of what they read
    targets: tuple[str, ...] = (IN_BLOCKS,)

    def parameters(self, inputs: int, outputs: int) -> int:
        """Weights of A and B beside one layer."""
        return self.rank * (inputs + outputs)


def is_target(layer: str, pattern: str) -> bool:
    """Whether `pattern` is the name of `layer` or the end of it behind a dot; * stands for any text."""
    return fnmatchcase(layer, pattern) or fnmatchcase(layer, f"*.{pattern}")


@dataclass(frozen=True)
class ModelShape:
    """What is built; without more than the sizes, a Llama-style decoder."""

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
    adapter: AdapterShape | None = None

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has a gate, and so three matrices."""
        return self.activation in (Activation.SWIGLU, Activation.GEGLU)

    @property
    def blocks(self) -> int:
        """All blocks of the chain, an encoder's before its decoder's."""
        return self.layers + self.decoder_layers

    @property
    def norm_parameters(self) -> int:
        """Weights of one norm: a scale, and LayerNorm's shift."""
        return self.hidden * (2 if self.norm is NormName.LAYER else 1)

    @property
    def attention_parameters(self) -> int:
        """Weights of one attention layer: query, key, value, output."""
        query, key_value = self.heads * self.head_size, self.key_value_heads * self.head_size
        matrices = 2 * self.hidden * (query + key_value)
        biases = (query + 2 * key_value) * self.query_key_value_bias + self.hidden * self.output_bias
        return matrices + biases

    @property
    def feed_forward_parameters(self) -> int:
        """Weights of one feed-forward layer."""
        inner = 2 if self.gated else 1
        matrices = (inner + 1) * self.hidden * self.feed_forward
        return matrices + (inner * self.feed_forward + self.hidden) * self.feed_forward_bias

    @property
    def layer_parameters(self) -> int:
        """Weights in one block of self-attention, feed-forward layer and two norms."""
        return self.attention_parameters + self.feed_forward_parameters + 2 * self.norm_parameters

    def block_parameters(self, number: int) -> int:
        """Weights in block `number`; a decoder's behind an encoder have cross-attention and a third norm."""
        crossing = number >= self.layers
        return self.layer_parameters + crossing * (self.attention_parameters + self.norm_parameters)

    @property
    def embedding_parameters(self) -> int:
        """Weights before the first block: tokens, positions, token types and, of an encoder, their norm."""
        rows = self.vocabulary + self.token_types
        if self.position is PositionName.LEARNED:
            rows += self.context
        tables = 2 * self.relative_buckets * self.heads if self.position is PositionName.RELATIVE else 0
        normed = self.architecture is Architecture.ENCODER
        return rows * self.hidden + tables + normed * self.norm_parameters

    @property
    def head_parameters(self) -> int:
        """Weights behind the last block; a tied projection is the embedding's."""
        projection = 0 if self.tied_embeddings else self.vocabulary * self.hidden
        match self.architecture:
            case Architecture.DECODER:
                return projection + self.norm_parameters
            case Architecture.ENCODER:  # a dense layer with norm, and a bias of the projection
                dense = self.hidden * self.hidden + self.hidden
                return projection + dense + self.norm_parameters + self.vocabulary
            case Architecture.ENCODER_DECODER:  # each of the two chains ends in a norm
                return projection + 2 * self.norm_parameters

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
        """Weights that training moves: the adapters', or all where there are none."""
        return self.parameters if self.adapter is None else self.adapter_parameters

    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer, by its name in the network."""
        layers: dict[str, tuple[int, int]] = {}
        for number in range(self.blocks):
            layers |= {f"blocks.{number}.{name}": sizes for name, sizes in self._block_layers(number).items()}
        if self.architecture is Architecture.ENCODER:
            layers["transform"] = (self.hidden, self.hidden)
        if not self.tied_embeddings:
            layers["head"] = (self.hidden, self.vocabulary)
        return layers

    def adapted_layers(self) -> dict[str, tuple[int, int]]:
        """Those of the linear layers that have an adapter."""
        targets = self.adapter.targets if self.adapter else ()
        return {
            name: sizes
            for name, sizes in self.linear_layers().items()
            if any(is_target(name, pattern) for pattern in targets)
        }

    def _block_layers(self, number: int) -> dict[str, tuple[int, int]]:
        query, key_value = self.heads * self.head_size, self.key_value_heads * self.head_size
        attention = {
            "query": (self.hidden, query),
            "key": (self.hidden, key_value),
            "value": (self.hidden, key_value),
            "output": (query, self.hidden),
        }
        layers = {f"attention.{name}": sizes for name, sizes in attention.items()}
        if number >= self.layers:
            layers |= {f"cross_attention.{name}": sizes for name, sizes in attention.items()}
        for name in ("gate", "up") if self.gated else ("up",):
            layers[f"feed_forward.{name}"] = (self.hidden, self.feed_forward)
        return layers | {"feed_forward.down": (self.feed_forward, self.hidden)}
