"""Batch-invariant decoding: a sequence's results have the same bits in any batch.

They do not depend on anything else in the pass: other sequences, in the same row or in others, pieces of
prompts, padding. This holds for generation and for training, so that the log-probabilities of both are equal,
bit by bit.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from torch import nn

from footplate_trainer.model.attention import MultiHeadAttention
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.feed_forward import FeedForward
from footplate_trainer.model.invariant_attention import InvariantAttention
from footplate_trainer.model.linear import Linear, LowRankAdapter
from footplate_trainer.model.norm import RMSNorm
from footplate_trainer.model.tiles import Tiles

NORMS: Final[tuple[type[nn.Module], ...]] = (RMSNorm, nn.LayerNorm)


def make_batch_invariant(network: Decoder, tiles: Tiles) -> None:
    """Make `network` compute in `tiles`, in place; names stay. Call it before anything wraps its blocks."""
    attention = InvariantAttention(network.shape, tiles)
    network.tiles = tiles
    network.attention_mask = attention.attention_mask
    for module in network.modules():
        if isinstance(module, Linear | LowRankAdapter):
            module.tiles = tiles
        elif isinstance(module, MultiHeadAttention):
            module.attend = attention.attend
        elif isinstance(module, FeedForward):
            module.activation = partial(tiles.rows, module.activation)
        elif isinstance(module, NORMS):
            module.forward = partial(tiles.rows, module.forward)
