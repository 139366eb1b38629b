"""Attention whose bits depend on the sequence alone, not on the rest of the batch.

A query's result is a sum over keys, and the bits of a sum depend on its order. Here the keys of a sequence
are in blocks of a fixed size, from the sequence's own first token on; each block is one product of a fixed
shape, and blocks are added up one after the other. A key that a query does not see has a weight of exactly 0:
so a block after it, or a neighbour's keys in the rest of a block, change nothing. The highest score, to which
all exponents are relative, is the same in any order.

Training, whose rows contain several sequences, regroups them first, and computes gradients with ordinary
attention: they need not have the same bits. Products, sums and exponentials are in fp32 for any dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention_mask import AttentionMask, causal_mask
from footplate_trainer.model.inputs import Inputs
from footplate_trainer.model.scaled_dot_product import get_attention_function
from footplate_trainer.model.tiles import Tiles

BLOCK: Final = 64
"""Keys of a block."""

_MOST_ROWS: Final = 128  # queries x heads that share keys, in one tile: the scores of its keys are kept

Hidden = Callable[[slice, int], tuple[int, int, Tensor | None]]
"""Of some queries and all blocks: how many blocks they see; from which on, what is hidden: bool
[blocks, n or 1, 1, queries, BLOCK], or nothing."""


@dataclass(frozen=True)
class SequenceGroup:
    """Sequences of equally many blocks, with their tokens' positions among all of the micro-batch."""

    tokens: Tensor  # int64 [n, blocks x BLOCK]; behind a sequence's end, any
    present: Tensor  # int64: which of these, flat, are tokens of a sequence


@dataclass(frozen=True)
class PackedSequences:
    """Attention mask of rows with several sequences."""

    dealt: list[SequenceGroup]
    window: int | None
    ordinary: AttentionMask  # the same for the backward pass


class InvariantAttention:
    """Replacement for a decoder's mask and attention."""

    def __init__(self, shape: ModelShape, tiles: Tiles) -> None:
        self._window = shape.sliding_window
        sizes = [size for size in tiles.sizes if size <= _MOST_ROWS] or tiles.sizes[-1:]
        self._tiles = Tiles(sizes)
        self.ordinary = get_attention_function(shape.attention_backend)

    def attention_mask(self, inputs: Inputs) -> PackedSequences:
        """Build the mask of whole sequences, once for all blocks of a pass."""
        batch, length = inputs.tokens.shape
        device = inputs.tokens.device
        ordinary = causal_mask(length, inputs.documents, self._window, device)
        return PackedSequences(
            group_sequences(inputs.documents, batch, length, device), self._window, ordinary
        )

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        """Attend: [batch, heads, length, head_size] of each -> the same, in the type of `query`.

        `mask` is PackedSequences or, where keys begin with those of a sequence's first token, AttentionMask.
        Then keys and values may be in blocks already: [blocks, batch, heads, BLOCK, head_size].
        """
        if isinstance(mask, PackedSequences):
            attended: Tensor = _OfPacked.apply(query, key, value, mask, self)
            return attended
        return self._behind(query, key, value, mask)

    def _behind(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask) -> Tensor:
        length = query.shape[2]
        if mask.tensor is None and mask.causal:
            hidden = _later(None, query.device)
        else:
            keys = len(key) * BLOCK if key.ndim > query.ndim else key.shape[2]
            seen = mask.tensor
            if seen is None:
                seen = torch.ones(1, 1, 1, keys, dtype=torch.bool, device=query.device)
            seen = seen.view(*[1] * (4 - seen.ndim), *seen.shape).expand(-1, -1, length, -1)
            behind = -seen.shape[-1] % BLOCK
            hidden = _masked(functional.pad(seen[:, 0], (0, behind)) if behind else seen[:, 0])
        return self.attend_blockwise(query, key, value, hidden, mask.scale)

    def attend_packed(self, query: Tensor, key: Tensor, value: Tensor, packed: PackedSequences) -> Tensor:
        """Attend in rows of sequences, without gradients; 0 where there is no sequence."""
        flat = [x.transpose(1, 2).flatten(0, 1) for x in (query, key, value)]  # [tokens, heads, head_size]
        attended = torch.zeros_like(flat[0])
        hidden = _later(packed.window, query.device)
        for dealt in packed.dealt:
            asked, keys, values = (x[dealt.tokens].transpose(1, 2) for x in flat)
            found = self.attend_blockwise(asked, keys, values, hidden, packed.ordinary.scale)
            found = found.transpose(1, 2).flatten(0, 1)
            attended[dealt.tokens.flatten()[dealt.present]] = found[dealt.present]
        batch, _, length, _ = query.shape
        return attended.view(batch, length, *attended.shape[1:]).transpose(1, 2)

    def attend_blockwise(
        self, query: Tensor, key: Tensor, value: Tensor, hidden: Hidden, scale: float | None
    ) -> Tensor:
        """Attend within each sequence of a batch; shapes as in `attend`."""
        count, heads, length, size = query.shape
        shared = key.shape[-3]
        group = heads // shared
        # Queries of all heads that share keys, one token's behind another's: [n x shared, length x group, …].
        rows = (query.float() * (scale or size**-0.5)).reshape(count, shared, group, length, size)
        rows = rows.transpose(2, 3).reshape(count * shared, length * group, size)
        keys, values = (_blocks(kept) for kept in (key, value))
        attended = torch.empty_like(rows)
        for some, tile in self._tiles.cut(length * group, 1):
            queries = slice(some.start // group, (some.stop - 1) // group + 1)
            blocks, first, mask = hidden(queries, len(keys))
            if mask is not None and group > 1 and mask.shape[3] > 1:
                of_row = torch.arange(some.start, some.stop, device=rows.device) // group - queries.start
                mask = mask[:, :, :, of_row]
            attended[:, some] = _tile(
                rows[:, some], keys[:blocks], values[:blocks], (count, shared), tile, first, mask
            )
        attended = attended.view(count, shared, length, group, size).transpose(2, 3)
        return attended.reshape(count, heads, length, size).to(query.dtype)


def _tile(
    rows: Tensor,
    keys: Tensor,
    values: Tensor,
    shape: tuple[int, int],
    tile: int,
    first: int,
    hidden: Tensor | None,
) -> Tensor:
    """Attend from rows [m, rows, size] to keys and values [blocks, m, BLOCK, size]; m: n x heads."""
    asked = rows.shape[1]
    padded = functional.pad(rows, (0, 0, 0, tile - asked)) if asked < tile else rows
    scores = rows.new_empty(len(keys), rows.shape[0], tile, BLOCK)
    for block, some in zip(scores.unbind(), keys.unbind(), strict=True):
        torch.bmm(padded, some.transpose(1, 2), out=block)
    if hidden is not None:
        by_sequence = scores.view(len(keys), *shape, tile, BLOCK)
        by_sequence[first:, :, :, :asked].masked_fill_(hidden, -torch.inf)
    highest = scores.amax((0, 3))
    shares = scores.sub_(highest[..., None]).exp_()
    (total, *sums), (share, *others), (some, *rest) = (
        shares.sum(-1).unbind(),
        shares.unbind(),
        values.unbind(),
    )
    mean = torch.bmm(share, some)
    for part, share, some in zip(sums, others, rest, strict=True):
        total = total + part
        mean.baddbmm_(share, some)
    return (mean / total[..., None])[:, :asked]


def _blocks(kept: Tensor) -> Tensor:
    """Arrange [n, heads, keys, size] as fp32 [blocks, n x heads, BLOCK, size], the last one padded with 0.

    Keys that are in blocks already only get a view.
    """
    if kept.ndim == 5:
        return kept.flatten(1, 2).float()
    count, heads, keys, size = kept.shape
    whole, rest = divmod(keys, BLOCK)
    shape = (whole + (rest > 0), count, heads, BLOCK, size)
    blocks = torch.empty(shape, dtype=torch.float32, device=kept.device)
    blocks[:whole] = kept[:, :, : whole * BLOCK].view(count, heads, whole, BLOCK, size).permute(2, 0, 1, 3, 4)
    if rest:
        blocks[whole, :, :, :rest] = kept[:, :, whole * BLOCK :]
        blocks[whole, :, :, rest:] = 0.0
    return blocks.flatten(1, 2)


def _later(window: int | None, device: torch.device) -> Hidden:
    """Hide keys later than a query, or `window` or more back; queries begin with a sequence's first token."""

    def hidden(queries: slice, blocks: int) -> tuple[int, int, Tensor]:
        del blocks
        seen = (queries.stop - 1) // BLOCK + 1
        first = 0 if window is not None else queries.start // BLOCK
        query = torch.arange(queries.start, queries.stop, device=device)[:, None]
        key = torch.arange(first * BLOCK, seen * BLOCK, device=device).view(-1, 1, 1, 1, BLOCK)
        mask = key > query
        return seen, first, mask if window is None else mask | (key <= query - window)

    return hidden


def _masked(seen: Tensor) -> Hidden:
    """Hide the keys that `seen`, bool [n or 1, queries, blocks x BLOCK], does not permit."""
    all_hidden = ~seen.reshape(*seen.shape[:2], -1, BLOCK).permute(2, 0, 1, 3)[:, :, None]

    def hidden(queries: slice, blocks: int) -> tuple[int, int, Tensor]:
        return blocks, 0, all_hidden[:, :, :, queries]

    return hidden


def group_sequences(
    documents: Tensor | None, batch: int, length: int, device: torch.device
) -> list[SequenceGroup]:
    """List the sequences of `documents` [batch, length], whose equal numbers are adjacent; -1 is none."""
    numbers: Sequence[Sequence[int]] = [[0] * length] * batch if documents is None else documents.tolist()
    by_blocks: dict[int, list[range]] = {}
    for row, in_row in enumerate(numbers):
        for run in _runs(in_row, row * length):
            by_blocks.setdefault(-(-len(run) // BLOCK), []).append(run)
    found = []
    for blocks, runs in by_blocks.items():
        places = torch.arange(blocks * BLOCK)
        firsts, lengths = (
            torch.tensor(numbers)[:, None]
            for numbers in zip(*((run.start, len(run)) for run in runs), strict=True)
        )
        tokens = firsts + places.minimum(lengths - 1)
        present = (places < lengths).flatten().nonzero().squeeze(1)
        found.append(SequenceGroup(tokens.to(device), present.to(device)))
    return found


def _runs(numbers: Sequence[int], first: int) -> Iterator[range]:
    for number, run in groupby(numbers):
        end = first + sum(1 for _ in run)
        if number >= 0:
            yield range(first, end)
        first = end


class _OfPacked(Function):
    """Forward by blocks; backward through the ordinary attention, which is computed once more for it."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, packed: PackedSequences, by: InvariantAttention
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.packed, ctx.by = packed, by
        return by.attend_packed(query, key, value, packed)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            leaves = [saved.detach().requires_grad_() for saved in ctx.saved_tensors]
            attended = ctx.by.ordinary(*leaves, ctx.packed.ordinary)
        return (*torch.autograd.grad(attended, leaves, gradient), None, None)
