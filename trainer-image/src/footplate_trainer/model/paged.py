"""Keys and values in blocks, for many sequences of uneven length that come and go.

A sequence's keys lie in blocks of equally many places each, anywhere among all
blocks. So room is never in pieces too small to use, and what several sequences
begin with lies in blocks that all of them name (Kwon et al. 2023). Which block
is whose, the caller says; here is what a layer keeps, and attention over it.

The tokens of a pass, of any sequences, stand in one row: [1, tokens]. Before
any of them looks, the keys of all are kept, so that a sequence may read what
another one of the same pass writes. For attention they are regrouped by the
queries of a sequence: a piece of a prompt by itself, and single tokens together
where they look at about equally many keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from footplate_trainer.model.attention import Attend, AttentionState
from footplate_trainer.model.attention_mask import AttentionMask, mask_behind
from footplate_trainer.model.inputs import Inputs

_SLACK = (
    4  # Single tokens are grouped while the longest has at most 1/4 more blocks than the shortest, and one.
)


@dataclass(frozen=True)
class PagedTokens:
    """Consecutive tokens of one sequence, of which all that come before are kept."""

    tokens: Sequence[int]
    start: int  # the place of the first
    blocks: Sequence[int]  # where the sequence's places lie, those of these tokens too

    @property
    def end(self) -> int:
        """How many places the sequence has with these tokens."""
        return self.start + len(self.tokens)


@dataclass(frozen=True)
class _Queries:
    """Equally many queries of each of n sequences."""

    rows: Tensor  # int64 [n, queries]: which tokens of the pass
    blocks: Tensor  # int64 [n, blocks]
    keys: int  # how many places of these blocks are looked at
    mask: AttentionMask


@dataclass(frozen=True)
class _Reads:
    """Who looks at whom in one pass."""

    slots: Tensor  # int64 [tokens]: where each token's keys go, block x size + place
    queries: list[_Queries]


class PagedCache:
    """Room for the keys and values of all layers, in `blocks` blocks of `size` places.

    `heads` key/value heads of `head_size` columns, of the type and on the device of `like`.
    """

    def __init__(
        self, *, layers: int, blocks: int, size: int, heads: int, head_size: int, like: Tensor
    ) -> None:
        self._size = size
        # Places that nobody wrote to are read too, with a weight of 0: that times NaN would be NaN.
        self._room = torch.zeros(
            (layers, 2, blocks, size, heads, head_size), dtype=like.dtype, device=like.device
        )

    def copy(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Give the second block of each pair what the first holds, in all layers."""
        if pairs:
            sources, targets = torch.tensor(pairs, device=self._room.device).T
            self._room[:, :, targets] = self._room[:, :, sources]

    def read(self, pieces: Sequence[PagedTokens], multiple: int = 1) -> tuple[Inputs, list[AttentionState]]:
        """What a decoder is told of a pass over `pieces`, one after another, and what its layers keep.

        The row is filled up to a multiple of `multiple` tokens, of which nothing is kept.
        """
        device = self._room.device
        tokens = [token for piece in pieces for token in piece.tokens]
        places = [place for piece in pieces for place in range(piece.start, piece.end)]
        filling = [0] * (-len(tokens) % multiple)
        inputs = Inputs(
            torch.tensor([tokens + filling], device=device),
            positions=torch.tensor(places + filling, device=device),
        )
        states = [_PagedLayer(keys, values, pieces, self._size) for keys, values in self._room.unbind()]
        return inputs, list(states)


class _PagedLayer:
    """One layer in one pass."""

    filled = 0  # a pass over pieces tells each token's place

    def __init__(self, keys: Tensor, values: Tensor, pieces: Sequence[PagedTokens], size: int) -> None:
        """`keys`, `values` [blocks, size, heads, head_size]."""
        self._keys, self._values, self._pieces, self._size = keys, values, pieces, size

    def mask(self, length: int, window: int | None) -> _Reads:
        """Where the first of `length` tokens go, and what they look at; the others fill up."""
        places = [
            (piece.blocks[place // self._size], place % self._size)
            for piece in self._pieces
            for place in range(piece.start, piece.end)
        ]
        assert len(places) <= length
        slots = torch.tensor(
            [block * self._size + place for block, place in places], device=self._keys.device
        )
        return _Reads(slots, list(_queries(self._pieces, self._size, window, self._keys.device)))

    def attend(self, attend: Attend, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        """[1, heads, tokens, head_size], of keys and values as of queries -> the same."""
        reads: _Reads = mask
        for kept, new in ((self._keys, key), (self._values, value)):
            new_rows = new[0].transpose(0, 1)[: len(reads.slots)]
            kept.flatten(0, 1).index_copy_(0, reads.slots, new_rows)
        filled_up = len(reads.slots) < query.shape[2]
        attended = torch.zeros_like(query) if filled_up else torch.empty_like(query)
        for queries in reads.queries:
            keys, values = (self._gathered(kept, queries) for kept in (self._keys, self._values))
            asked = query[0, :, queries.rows].transpose(0, 1)  # [n, heads, queries, head_size]
            answered = attend(asked, keys, values, queries.mask)
            attended[0, :, queries.rows] = answered.transpose(0, 1)
        return attended

    @staticmethod
    def _gathered(kept: Tensor, queries: _Queries) -> Tensor:
        """[n, heads, keys, head_size]."""
        return kept[queries.blocks].flatten(1, 2)[:, : queries.keys].transpose(1, 2)


def _queries(
    pieces: Sequence[PagedTokens], size: int, window: int | None, device: torch.device
) -> Iterator[_Queries]:
    """All tokens of `pieces`, each once."""
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
        yield _Queries(rows, blocks, piece.end, mask_behind(piece.start, end - first, window, device))
    single.sort(key=lambda row: row[1].end)
    while single:
        most = -(-single[0][1].end // size) * (_SLACK + 1) // _SLACK + 1
        group = [(row, piece) for row, piece in single if piece.end <= most * size]
        single = single[len(group) :]
        yield _single_tokens(group, size, window, device)


def _single_tokens(
    group: Sequence[tuple[int, PagedTokens]], size: int, window: int | None, device: torch.device
) -> _Queries:
    """One query of each sequence; of those with fewer keys than the longest, masks hide the rest."""
    keys = group[-1][1].end
    count = -(-keys // size)
    blocks = torch.tensor(
        [[*piece.blocks[:count], *[piece.blocks[0]] * (count - len(piece.blocks))] for _, piece in group],
        device=device,
    )
    rows = torch.tensor([[row] for row, _ in group], device=device)
    mask = AttentionMask(causal=False)
    ends = [piece.end for _, piece in group]
    if ends[0] < keys or (window is not None and window < keys):
        last = torch.tensor(ends, device=device)[:, None] - 1
        places = torch.arange(keys, device=device)
        seen = places <= last
        if window is not None:
            seen &= places > last - window
        mask = replace(mask, tensor=seen[:, None, None])
    return _Queries(rows, blocks, keys, mask)
