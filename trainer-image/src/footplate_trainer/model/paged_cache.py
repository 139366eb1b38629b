"""Paged key/value cache, for many sequences of uneven length that start and end at any time.

A sequence's keys are in blocks of equally many positions each, anywhere among all blocks. So free space is
never in pieces too small to use, and sequences with a common prefix share its blocks (Kwon et al. 2023). The
caller assigns blocks to sequences; this module has the layers' storage, and attention over it.

The tokens of a pass, of any sequences, are in one row: [1, tokens]. The keys of all tokens are stored before
any of them attends, so that a sequence may read what another one of the same pass writes. For attention the
tokens are regrouped by sequence: a piece of a prompt by itself, and single tokens together if they attend to
about equally many keys. Each head of a block is stored separately, so that keys are copied once, into
whatever order attention needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from footplate_trainer.model.attention import Attend, AttentionState
from footplate_trainer.model.attention_mask import AttentionMask, offset_causal_mask
from footplate_trainer.model.inputs import Inputs

_SLACK = (
    4  # Single tokens are grouped while the longest has at most 1/4 more blocks than the shortest, and one.
)


@dataclass(frozen=True)
class PagedTokens:
    """Consecutive tokens of one sequence, all of whose earlier tokens are stored."""

    tokens: Sequence[int]
    start: int  # the place of the first
    blocks: Sequence[int]  # where the sequence's places lie, those of these tokens too

    @property
    def end(self) -> int:
        """The number of positions of the sequence including these tokens."""
        return self.start + len(self.tokens)


@dataclass(frozen=True)
class _Queries:
    """Equally many queries of each of n sequences."""

    rows: Tensor  # int64 [n, queries]: which tokens of the pass
    blocks: Tensor  # int64 [n, blocks]
    keys: int  # how many places of these blocks are looked at
    mask: AttentionMask


@dataclass(frozen=True)
class _Gathering:
    """Positions of the queries' keys, each head of a block by itself, in attention's order."""

    queries: _Queries
    heads_of_blocks: Tensor  # int64: of blocks x heads
    shape: tuple[int, ...]  # of what is gathered but for the size of a head
    whole: bool  # all that is gathered goes to attention

    @staticmethod
    def of(queries: _Queries, size: int, heads: int, group: int | None) -> _Gathering:
        """Order keys as [n, heads, keys], or as [groups, n, heads, group] for attention over groups."""
        of_heads = torch.arange(heads, device=queries.blocks.device)
        n, count = queries.blocks.shape
        if group is None:
            lying = queries.blocks[:, None] * heads + of_heads[:, None]
            whole = count * size == queries.keys
            return _Gathering(queries, lying.flatten(), (n, heads, count * size), whole)
        at_once = group // size
        groups = -(-count // at_once)
        # What fills the last group up is hidden.
        filling = queries.blocks[:, :1].expand(n, groups * at_once - count)
        in_groups = torch.cat((queries.blocks, filling), dim=1).view(n, groups, at_once).transpose(0, 1)
        lying = in_groups[:, :, None] * heads + of_heads[:, None]
        return _Gathering(queries, lying.flatten(), (groups, n, heads, group), True)


@dataclass(frozen=True)
class _Reads:
    """The keys that each token of a pass attends to, and the slots of its own keys."""

    tokens: int
    slots: Tensor  # int64 [tokens x heads]: where each token's keys go, (block x heads + head) x size + place
    gathered: list[_Gathering]


class PagedKeyValueCache:
    """Key/value storage of all layers, in `blocks` blocks of `size` positions.

    `heads` key/value heads of `head_size` columns, of the type and on the device of `like`. Attention gets
    keys [n, heads, keys, head_size]; where it needs them in groups of `group`, and blocks fill a group
    exactly, [groups, n, heads, group, head_size].
    """

    def __init__(
        self,
        *,
        layers: int,
        blocks: int,
        size: int,
        heads: int,
        head_size: int,
        like: Tensor,
        group: int | None = None,
    ) -> None:
        self._group = group if group is not None and group % size == 0 else None
        # Places that nobody wrote to are read too, with a weight of 0: that times NaN would be NaN.
        self._room = torch.zeros(
            (layers, 2, blocks, heads, size, head_size), dtype=like.dtype, device=like.device
        )

    def copy_blocks(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copy the first block of each pair to the second, in all layers."""
        if pairs:
            sources, targets = torch.tensor(pairs, device=self._room.device).T
            self._room[:, :, targets] = self._room[:, :, sources]

    def prepare_pass(
        self, pieces: Sequence[PagedTokens], filled: Callable[[int], int] = int
    ) -> tuple[Inputs, list[AttentionState]]:
        """Return a decoder's inputs for a pass over `pieces`, in order, and its layers' attention states.

        A row of n tokens is padded to `filled(n)`; nothing of the padding is stored.
        """
        device = self._room.device
        tokens = [token for piece in pieces for token in piece.tokens]
        places = [place for piece in pieces for place in range(piece.start, piece.end)]
        filling = [0] * (filled(len(tokens)) - len(tokens))
        inputs = Inputs(
            torch.tensor([tokens + filling], device=device),
            positions=torch.tensor(places + filling, device=device),
        )
        states = [_PagedLayer(keys, values, pieces, self._group) for keys, values in self._room.unbind()]
        return inputs, list(states)


class _PagedLayer:
    """State of one layer in one pass."""

    filled = 0  # a pass over pieces tells each token's place

    def __init__(
        self, keys: Tensor, values: Tensor, pieces: Sequence[PagedTokens], group: int | None
    ) -> None:
        """Bind the layer's `keys` and `values` [blocks, heads, size, head_size]."""
        self._keys, self._values, self._pieces, self._group = keys, values, pieces, group

    def mask(self, length: int, window: int | None) -> _Reads:
        """Return the slots of the first of `length` tokens, and the keys they attend to.

        The rest of the `length` tokens is padding.
        """
        _, heads, size, _ = self._keys.shape
        device = self._keys.device
        of_first_head = [
            piece.blocks[place // size] * heads * size + place % size
            for piece in self._pieces
            for place in range(piece.start, piece.end)
        ]
        assert len(of_first_head) <= length
        of_heads = torch.arange(heads, device=device) * size
        slots = torch.tensor(of_first_head, device=device)[:, None] + of_heads
        queries = _queries(self._pieces, size, window, self._group, device)
        gathered = [_Gathering.of(some, size, heads, self._group) for some in queries]
        return _Reads(len(of_first_head), slots.flatten(), gathered)

    def attend(self, attend: Attend, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        """Store keys and values, and attend: [1, heads, tokens, head_size] of each -> the same."""
        reads: _Reads = mask
        for kept, new in ((self._keys, key), (self._values, value)):
            new_rows = new[0].transpose(0, 1)[: reads.tokens]
            kept.flatten(0, 2).index_copy_(0, reads.slots, new_rows.flatten(0, 1))
        filled_up = reads.tokens < query.shape[2]
        attended = torch.zeros_like(query) if filled_up else torch.empty_like(query)
        for gathering in reads.gathered:
            queries = gathering.queries
            keys, values = (self._gathered(kept, gathering) for kept in (self._keys, self._values))
            rows, by_token = queries.rows.flatten(), query[0].transpose(0, 1)
            asked = by_token.index_select(0, rows).view(*queries.rows.shape, *by_token.shape[1:])
            answered = attend(asked.transpose(1, 2), keys, values, queries.mask)  # [n, heads, queries, size]
            attended[0].transpose(0, 1).index_copy_(0, rows, answered.transpose(1, 2).flatten(0, 1))
        return attended

    @staticmethod
    def _gathered(kept: Tensor, gathering: _Gathering) -> Tensor:
        """Gather the keys as described in PagedKeyValueCache; each head of each block is a row."""
        found = kept.flatten(0, 1).flatten(1).index_select(0, gathering.heads_of_blocks)
        found = found.view(*gathering.shape, kept.shape[-1])
        return found if gathering.whole else found[:, :, : gathering.queries.keys]


def _queries(
    pieces: Sequence[PagedTokens], size: int, window: int | None, multiple: int | None, device: torch.device
) -> Iterator[_Queries]:
    """Yield all tokens of `pieces`, each once, grouped for attention."""
    firsts = [0]
    for piece in pieces:
        firsts.append(firsts[-1] + len(piece.tokens))
    single = []
    for (first, end), piece in zip(pairwise(firsts), pieces, strict=True):
        if len(piece.tokens) == 1:
            single.append((first, piece))
            continue
        blocks = torch.tensor([piece.blocks[: -(-piece.end // size)]], device=device)
        rows = torch.arange(first, end, device=device)[None]
        yield _Queries(rows, blocks, piece.end, offset_causal_mask(piece.start, end - first, window, device))
    single.sort(key=lambda row: row[1].end)
    while single:
        most = -(-single[0][1].end // size) * (_SLACK + 1) // _SLACK + 1
        group = [(row, piece) for row, piece in single if piece.end <= most * size]
        single = single[len(group) :]
        yield _single_tokens(group, size, window, multiple, device)


def _single_tokens(
    group: Sequence[tuple[int, PagedTokens]],
    size: int,
    window: int | None,
    multiple: int | None,
    device: torch.device,
) -> _Queries:
    """Group a query of each sequence; masks hide the padding to the longest, or to a `multiple`."""
    keys = group[-1][1].end
    count = -(-keys // size)
    blocks = torch.tensor(
        [[*piece.blocks[:count], *[piece.blocks[0]] * (count - len(piece.blocks))] for _, piece in group],
        device=device,
    )
    rows = torch.tensor([[row] for row, _ in group], device=device)
    mask = AttentionMask(causal=False)
    ends = [piece.end for _, piece in group]
    if ends[0] < keys or (window is not None and window < keys) or keys % (multiple or 1):
        last = torch.tensor(ends, device=device)[:, None] - 1
        places = torch.arange(keys + -keys % (multiple or 1), device=device)
        seen = places <= last
        if window is not None:
            seen &= places > last - window
        mask = replace(mask, tensor=seen[:, None, None])
    return _Queries(rows, blocks, keys, mask)
