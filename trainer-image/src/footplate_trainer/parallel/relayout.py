"""This rank's side of a relayout: sends weights from one layout of the ranks to another, in rounds.

Each round's messages are bounded, so a rank holds its part of both layouts and
little more. A part that is the same in both is not copied: as long as weights do
not change, both layouts may share memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_planning.placement import TensorRegion
from footplate_planning.reshard import BlockTransfer, ReshardPlan, TransferPiece


@dataclass(frozen=True)
class _Round:
    """Moves of one round; moves with one peer are in the order of its message."""

    within: list[BlockTransfer]  # from this rank to itself
    sent: list[list[BlockTransfer]]  # by receiver
    received: list[list[BlockTransfer]]  # by sender


@dataclass(frozen=True)
class _Messages:
    """All that one round sends to, or receives from, all peers: one tensor, and its pieces."""

    whole: Tensor
    pieces: list[Tensor]  # shaped as the blocks that they are, in the order of peers
    bytes: list[int]  # by peer


class Transfer:
    """A transfer of weights, run whenever they have changed; its plan is computed once."""

    def __init__(
        self, plan: ReshardPlan, group: dist.ProcessGroup, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Plan this rank's rounds; `group` has all ranks; weights travel as `dtype`, on `device`."""
        assert dtype.itemsize == plan.number_bytes, "the plan counts bytes"
        self._group, self._device, self._dtype = group, device, dtype
        rank = group.rank()
        self._held = {exchange.source.name: exchange.source.boxes.get(rank) for exchange in plan.exchanges}
        self._wanted = {
            exchange.target.name: exchange.target.boxes[rank]
            for exchange in plan.exchanges
            if rank in exchange.target.boxes
        }
        self._rounds = [_round_of(parts, rank, group.size()) for parts in plan.rounds]
        self.received_bytes = 0  # from others, the last time

    def run(self, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this rank's part of the target by name, from its part of the source. Collective.

        A part shares the memory of `held` if its block, dtype and device are the same and it is contiguous.
        """
        for name, box in self._held.items():
            expected = None if box is None else box.size
            found = tuple(held[name].shape) if name in held else None
            assert found == expected, f"{name}: found {found}, expected {expected}"
        parts = {name: self._room(name, box, held) for name, box in self._wanted.items()}
        self.received_bytes = 0
        with torch.no_grad():
            for moves in self._rounds:
                self._exchange(moves, held, parts)
        return parts

    def _room(self, name: str, box: TensorRegion, held: Mapping[str, Tensor]) -> Tensor:
        here = held.get(name)
        if here is not None and self._held[name] == box and self._is_at_home(here):
            return here
        return torch.empty(box.size, dtype=self._dtype, device=self._device)

    def _is_at_home(self, tensor: Tensor) -> bool:
        return tensor.dtype == self._dtype and tensor.device == self._device and tensor.is_contiguous()

    def _exchange(self, moves: _Round, held: Mapping[str, Tensor], parts: Mapping[str, Tensor]) -> None:
        for move in moves.within:
            if parts[move.name] is not held[move.name]:
                self._target(move, parts).copy_(self._source(move, held))
        sent, received = self._messages(moves.sent), self._messages(moves.received)
        for move, piece in zip(chain(*moves.sent), sent.pieces, strict=True):
            piece.copy_(self._source(move, held))
        dist.all_to_all_single(
            received.whole.view(torch.uint8),
            sent.whole.view(torch.uint8),
            output_split_sizes=received.bytes,
            input_split_sizes=sent.bytes,
            group=self._group,
        )
        for move, piece in zip(chain(*moves.received), received.pieces, strict=True):
            self._target(move, parts).copy_(piece)
        self.received_bytes += sum(received.bytes)

    def _messages(self, by_peer: Sequence[Sequence[BlockTransfer]]) -> _Messages:
        sizes = [move.box.numel for move in chain(*by_peer)]
        whole = torch.empty(sum(sizes), dtype=self._dtype, device=self._device)
        pieces = [
            piece.view(move.box.size)
            for move, piece in zip(chain(*by_peer), whole.split_with_sizes(sizes), strict=True)
        ]
        bytes_ = [self._dtype.itemsize * sum(move.box.numel for move in moves) for moves in by_peer]
        return _Messages(whole, pieces, bytes_)

    def _source(self, move: BlockTransfer, held: Mapping[str, Tensor]) -> Tensor:
        box = self._held[move.name]
        assert box is not None
        return _within(held[move.name], box, move.box)

    def _target(self, move: BlockTransfer, parts: Mapping[str, Tensor]) -> Tensor:
        return _within(parts[move.name], self._wanted[move.name], move.box)


def _round_of(parts: Sequence[TransferPiece], rank: int, ranks: int) -> _Round:
    made = _Round([], [[] for _ in range(ranks)], [[] for _ in range(ranks)])
    for part in parts:
        for move in part.outgoing(rank):
            (made.within if move.receiver == rank else made.sent[move.receiver]).append(move)
        for move in part.incoming(rank):
            if move.sender != rank:
                made.received[move.sender].append(move)
    return made


def _within(local: Tensor, here: TensorRegion, wanted: TensorRegion) -> Tensor:
    """Return the view `wanted` of a tensor whose block `here` is `local`."""
    for dimension, (first, start, length) in enumerate(
        zip(here.start, wanted.start, wanted.size, strict=True)
    ):
        local = local.narrow(dimension, start - first, length)
    return local
