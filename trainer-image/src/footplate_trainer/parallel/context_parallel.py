"""Context parallelism: the ranks of a group share each sequence.

A rank computes two chunks of the sequence, one from each end (see
`topology.context_chunks`), and gathers keys and values of all the others: they
are few if heads share them, and a ring would wait on a CPU for the same
transfers as one gather a layer does. A rank's mask has rows only for its own
queries, and there is no mask where the causal flag suffices.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from footplate_contracts.v1alpha1.model import Architecture
from footplate_planning.shape import ModelShape
from footplate_planning.topology import context_chunks
from footplate_trainer.model.attention import MultiHeadAttention
from footplate_trainer.model.attention_mask import AttentionMask, causal_mask_tensor, same_document
from footplate_trainer.model.inputs import Inputs
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.model.scaled_dot_product import get_attention_function


def my_positions(length: int, group: dist.ProcessGroup) -> Tensor:
    """Return the positions that this rank of `group` computes: int64 [length / ranks], ascending."""
    piece = length // (2 * group.size())
    chunks = context_chunks(group.rank(), group.size())
    return torch.cat([torch.arange(chunk * piece, (chunk + 1) * piece) for chunk in chunks])


def shard_sequence(inputs: Inputs, labels: Tensor, group: dist.ProcessGroup) -> tuple[Inputs, Tensor]:
    """Return this rank's positions of tokens and labels; documents stay whole, as keys come from all."""
    positions = my_positions(inputs.tokens.shape[1], group).to(inputs.tokens.device)
    dealt = replace(inputs, tokens=inputs.tokens[:, positions], positions=positions)
    return dealt, labels[:, positions]


def gather_sequence_shards(dealt: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Gather [length / ranks, …] at each rank's positions into [length, …], in the sequence's order."""
    mine = dealt.contiguous()
    gathered = mine.new_empty(mine.shape[0] * group.size(), *mine.shape[1:])
    dist.all_gather_into_tensor(gathered, mine, group=group)
    pieces = gathered.view(2 * group.size(), -1, *gathered.shape[1:])
    return pieces[_places(group.size())].flatten(0, 1)


def apply_context_parallel(network: TransformerNetwork, group: dist.ProcessGroup) -> None:
    """Let `network` attend to the keys of all ranks of `group`."""
    shared = _GatheredAttention(group, network.shape)
    network.attention_mask = shared.attention_mask
    for module in network.modules():
        if isinstance(module, MultiHeadAttention):
            module.attend = shared.attend


Masks = list[Tensor | None]
"""Of the queries of each piece: bool [batch or 1, 1, piece, keys that it may see]; None: causal or all."""


class _GatheredAttention:
    """Attention of this rank's queries to the keys of all ranks."""

    def __init__(self, group: dist.ProcessGroup, shape: ModelShape) -> None:
        self._group = group
        self._causal = shape.architecture is Architecture.DECODER
        self._window = shape.sliding_window
        self._attend = get_attention_function(shape.attention_backend)
        piece = shape.context // (2 * group.size())
        self._pieces = [
            (chunk * piece, (chunk + 1) * piece) for chunk in context_chunks(group.rank(), group.size())
        ]

    def attention_mask(self, inputs: Inputs) -> Masks:
        """Return a mask for each chunk; computed once for all blocks of a pass."""
        return [self._mask(start, end, inputs) for start, end in self._pieces]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, masks: Masks) -> Tensor:
        """Compute attention; arguments and result are [batch, heads, length / ranks, head_size] each."""
        keys, values = _gather(key, value, self._group)
        attended = [
            self._attend(
                piece,
                keys[:, :, : self._seen(end)],
                values[:, :, : self._seen(end)],
                AttentionMask(causal=self._causal, tensor=mask),
            )
            for piece, (_, end), mask in zip(query.chunk(2, dim=2), self._pieces, masks, strict=True)
        ]
        return torch.cat(attended, dim=2)

    def _seen(self, end: int) -> int | None:
        """Return how many keys the queries before `end` may attend to; None: all."""
        return end if self._causal else None

    def _mask(self, start: int, end: int, inputs: Inputs) -> Tensor | None:
        """Return the mask of queries start … end-1 against their visible keys; None if not needed."""
        mask = self._earlier(start, end, inputs.tokens.device) if self._causal else None
        if inputs.documents is None:
            return mask
        queries, keys = inputs.documents[:, start:end], inputs.documents[:, : self._seen(end)]
        same = same_document(queries, keys)
        if mask is None and self._causal:
            mask = causal_mask_tensor(start, end, None, same.device)
        return same if mask is None else same & mask

    def _earlier(self, start: int, end: int, device: torch.device) -> Tensor | None:
        """Return the causal mask, or None if SDPA's causal flag means the same."""
        window = self._window if self._window is not None and self._window < end else None
        return None if start == 0 and window is None else causal_mask_tensor(start, end, window, device)


def _gather(key: Tensor, value: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """Gather [batch, heads, length / ranks, size] of each rank: keys and values in the sequence's order."""
    both: Tensor = _GatherInOrder.apply(torch.stack((key, value)), group)
    return both[0], both[1]


class _GatherInOrder(Function):
    """Differentiable gather: [2, batch, heads, length / ranks, size] -> [2, batch, heads, length, size]."""

    @staticmethod
    def forward(ctx: Any, both: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        in_order: Tensor = gather_sequence_shards(both.movedim(3, 0), group).movedim(0, 3)
        return in_order

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ranks = ctx.group.size()
        in_order = gradient.movedim(3, 0)
        pieces = in_order.reshape(2 * ranks, -1, *in_order.shape[1:])
        dealt = pieces[_chunks_as_dealt(ranks)].flatten(0, 1)
        mine = dealt.new_empty(dealt.shape[0] // ranks, *dealt.shape[1:])
        dist.reduce_scatter_tensor(mine, dealt, group=ctx.group)
        return mine.movedim(0, 3), None


def _chunks_as_dealt(ranks: int) -> list[int]:
    """Return the chunks in the order in which ranks hold them."""
    return [chunk for part in range(ranks) for chunk in context_chunks(part, ranks)]


def _places(ranks: int) -> list[int]:
    """Return each chunk's index in the order of `_chunks_as_dealt`."""
    dealt = _chunks_as_dealt(ranks)
    return [dealt.index(chunk) for chunk in range(2 * ranks)]
