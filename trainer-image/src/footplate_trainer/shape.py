"""The shape of a network, with nothing left to guess, and its arithmetic.

Pure: model code builds from it, the plan counts with it, and the names of
another library's files follow from it. It is filled in from a RunConfig by
`config.model_shape`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
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
