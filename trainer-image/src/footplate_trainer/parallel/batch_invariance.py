"""Batch-invariant decoding: a sequence's results have the same bits in any batch.

They do not depend on anything else in the pass: other sequences, in the same row or in others, pieces of
prompts, padding. This holds for generation and for training, so that the log-probabilities of both are equal,
bit by bit. Each rank checks its own machine, and all must compute the same bits.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import nn

from footplate_trainer.errors import TrainerError
from footplate_trainer.model.attention import MultiHeadAttention
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.feed_forward import FeedForward
from footplate_trainer.model.invariant_attention import InvariantAttention
from footplate_trainer.model.linear import Linear, LowRankAdapter
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.model.norm import RMSNorm
from footplate_trainer.model.tile_check import InvariantTiles, NoInvariantTiles, find_invariant_tiles
from footplate_trainer.model.tiles import Tiles
from footplate_trainer.parallel.object_collectives import all_gather
from footplate_trainer.parallel.world import DistributedContext

NORMS: Final[tuple[type[nn.Module], ...]] = (RMSNorm, nn.LayerNorm)


def apply_batch_invariance(
    network: TransformerNetwork, dtype: torch.dtype, world: DistributedContext
) -> None:
    """Make `network`, cut and still on `meta`, compute in tiles that passed this machine's check. Collective.

    Raises as `agreed_tiles` does.
    """
    assert isinstance(network, Decoder), "only decoders generate"
    make_batch_invariant(network, agreed_tiles(network, dtype, world))


def agreed_tiles(network: Decoder, dtype: torch.dtype, world: DistributedContext) -> Tiles:
    """Return tiles in which `network`, cut and still on `meta`, computes the same on all ranks. Collective.

    Raises, on every rank, the error of a rank that finds none, and NoInvariantTiles if two ranks compute the
    same thing with different bits.
    """
    found: InvariantTiles | TrainerError
    try:
        found = find_invariant_tiles(network, dtype, world.device)
    except TrainerError as error:
        found = error
    told = all_gather(found if isinstance(found, TrainerError) else found.digests, world.everybody)
    for of_rank in told:
        if isinstance(of_rank, TrainerError):
            raise of_rank
    require_equal([digests for digests in told if isinstance(digests, dict)])
    assert isinstance(found, InvariantTiles)
    return found.tiles


def require_equal(digests: list[dict[str, str]]) -> None:
    """Raise NoInvariantTiles if two ranks computed the same thing with different bits; `digests` by rank.

    Pipeline ranks may have different things to compute.
    """
    first: dict[str, tuple[int, str]] = {}
    for rank, of_rank in enumerate(digests):
        for what, digest in of_rank.items():
            other, expected = first.setdefault(what, (rank, digest))
            if digest != expected:
                raise NoInvariantTiles(
                    f"rollout.batchInvariant: ranks {other} and {rank} compute {what} with different bits; "
                    "use nodes of one kind, with equally many threads, or remove batchInvariant"
                )


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
