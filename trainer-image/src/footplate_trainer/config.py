"""RunConfig as the trainer's modules want it: small frozen records, derived numbers as properties.

The contract groups fields for the person who writes them; a module here should
see only what it computes with. Nothing below has defaults that the contract has
too: `resolve` in the contracts has filled them all in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from footplate_contracts.runconfig import RunConfig


@dataclass(frozen=True)
class DecoderShape:
    """A Llama-style decoder: RMSNorm, rotary positions, SwiGLU, grouped-query attention."""

    layers: int
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

    @property
    def layer_parameters(self) -> int:
        """Weights in one block: q and o, k and v, three feed-forward matrices, two norms."""
        query = self.hidden * self.heads * self.head_size
        key_value = self.hidden * self.key_value_heads * self.head_size
        return 2 * query + 2 * key_value + 3 * self.hidden * self.feed_forward + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """All trainable weights; a tied output head is counted once."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)
        return embeddings + self.layers * self.layer_parameters + self.hidden


def decoder_shape(config: RunConfig) -> DecoderShape:
    """The network of a resolved RunConfig."""
    model = config.model
    assert model.feed_forward_size and model.key_value_heads and model.head_size, "resolve() fills these in"
    return DecoderShape(
        layers=model.layers,
        hidden=model.hidden_size,
        feed_forward=model.feed_forward_size,
        heads=model.attention_heads,
        key_value_heads=model.key_value_heads,
        head_size=model.head_size,
        vocabulary=model.vocabulary_size,
        context=model.context_length,
        tied_embeddings=model.tied_embeddings,
        norm_epsilon=model.norm.epsilon,
        rope_theta=model.position.theta,
    )


def total_steps(config: RunConfig) -> int:
    """Optimizer steps of the whole run."""
    assert config.training.steps is not None, "resolve() fills this in"
    return config.training.steps


def local_path(uri: str) -> Path:
    """The path of a plain path or file:// URI (the contracts refuse every other scheme)."""
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else Path(uri)
