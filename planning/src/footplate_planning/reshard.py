"""Resharding of weights from one layout to another: blocks, senders, receivers and rounds. Pure.

Training and generation want different layouts of the same ranks. A rank receives its target blocks from
ranks that hold them: from itself where it can, else from one of the holders, among whom the copies to be
filled are divided, neighbours to neighbours. Transfers go in rounds, so that few bytes are in flight at
once: several small weights in one round, or a large one in pieces of rows of each block, so that all its
holders send at the same time. Every rank computes its own part of each round and needs no messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from footplate_contracts.v1alpha1.parallelism import Sharding
from footplate_contracts.v1alpha1.rollout import RolloutParallelism
from footplate_planning.placement import TensorRegion, WeightPlacement, placements
from footplate_planning.shape import ModelShape
from footplate_planning.topology import RankCoordinates, Topology

_MOST_ON_ITS_WAY: Final = 2**26  # bytes that a rank sends, and receives, in a round
_SHARE_ON_ITS_WAY: Final = 32  # and no more than this part of what the leanest rank is to hold


def rollout_topology(world_size: int, parallelism: RolloutParallelism) -> Topology:
    """Return the grid of the ranks during generation: whole copies, one for each data rank.

    `compatibility.find_rollout_problems` checks that they can form it.
    """
    tensor, pipeline = parallelism.tensor, parallelism.pipeline
    assert world_size % (tensor * pipeline) == 0
    return Topology(
        data=world_size // (tensor * pipeline), tensor=tensor, pipeline=pipeline, sharding=Sharding.NONE
    )


@dataclass(frozen=True)
class BlockTransfer:
    """Transfer of a weight's block, or a block that stays where sender and receiver are one."""

    name: str
    sender: int
    receiver: int
    box: TensorRegion  # in the whole weight


@dataclass(frozen=True)
class WeightTransfer:
    """A weight in both layouts."""

    source: WeightPlacement
    target: WeightPlacement
    copies: Topology  # whose data coordinate says which copy a receiver belongs to

    def incoming(self, rank: int, piece: int = 0, pieces: int = 1) -> Iterator[BlockTransfer]:
        """Yield the moves to `rank` in a piece, from itself too."""
        wanted = self.target.boxes.get(rank)
        for box in self.source.holders if wanted is not None else ():
            if found := self._move(box, rank, piece, pieces):
                yield found

    def outgoing(self, rank: int, piece: int = 0, pieces: int = 1) -> Iterator[BlockTransfer]:
        """Yield the moves from `rank` in a piece, to itself too; by receiver."""
        box = self.source.boxes.get(rank)
        for receiver in self.target.boxes if box is not None else ():
            assert box is not None
            found = self._move(box, receiver, piece, pieces)
            if found is not None and found.sender == rank:
                yield found

    @property
    def most_at_once(self) -> int:
        """Numbers that one rank sends, or receives, at most, if all went in one piece."""
        first = [rank for rank in self.target.boxes if self.copies.coordinates(rank).data == 0]
        sends = 0
        for box, holders in self.source.holders.items():
            wanted = (self.target.boxes[rank].intersection(box) for rank in first)
            copies = -(-self.copies.data // len(holders))
            sends = max(sends, copies * sum(part.numel for part in wanted if part is not None))
        return max(sends, self.target.largest)

    def _move(self, held: TensorRegion, receiver: int, piece: int, pieces: int) -> BlockTransfer | None:
        box = held.piece(piece, pieces).intersection(self.target.boxes[receiver])
        if box is None:
            return None
        holders = self.source.holders[held]
        if self.source.boxes.get(receiver) == held:
            return BlockTransfer(self.source.name, receiver, receiver, box)
        turn = self.copies.coordinates(receiver).data * len(holders) // self.copies.data
        return BlockTransfer(self.source.name, holders[turn], receiver, box)


@dataclass(frozen=True)
class TransferPiece:
    """Piece `number` of `of` of an exchange."""

    exchange: WeightTransfer
    number: int
    of: int

    def incoming(self, rank: int) -> Iterator[BlockTransfer]:
        """Yield the moves to `rank`, as the exchange does."""
        return self.exchange.incoming(rank, self.number, self.of)

    def outgoing(self, rank: int) -> Iterator[BlockTransfer]:
        """Yield the moves from `rank`, as the exchange does."""
        return self.exchange.outgoing(rank, self.number, self.of)


@dataclass(frozen=True)
class ReshardPlan:
    """Plan to move all weights from `source` to `target`; a number in transit takes `number_bytes`."""

    exchanges: Sequence[WeightTransfer]
    rounds: Sequence[Sequence[TransferPiece]]
    number_bytes: int

    @classmethod
    def of(
        cls,
        shape: ModelShape,
        source: Topology,
        target: Topology,
        number_bytes: int,
        most_on_its_way: int = _MOST_ON_ITS_WAY,
    ) -> ReshardPlan:
        """Plan rounds in which a rank sends and receives `most_on_its_way` bytes, or a few rows more."""
        assert source.world_size == target.world_size
        pairs = zip(placements(shape, source), placements(shape, target), strict=True)
        exchanges = [WeightTransfer(before, behind, target) for before, behind in pairs]
        leanest = min(
            _numbers((exchange.target for exchange in exchanges), rank) for rank in _one_copy(target)
        )
        room = max(1, min(most_on_its_way // number_bytes, leanest // _SHARE_ON_ITS_WAY))
        return cls(exchanges, list(_rounds(exchanges, room)), number_bytes)

    def source_bytes(self, rank: int, number_bytes: int) -> int:
        """Return the bytes of `rank`'s part of the source, whose numbers take `number_bytes`."""
        return number_bytes * _numbers((exchange.source for exchange in self.exchanges), rank)

    def target_bytes(self, rank: int) -> int:
        """Return the bytes of `rank`'s part of the target."""
        return self.number_bytes * _numbers((exchange.target for exchange in self.exchanges), rank)

    def received_bytes(self, rank: int) -> int:
        """Return the bytes that `rank` receives from others: its part of the target but what it held."""
        moves = (move for exchange in self.exchanges for move in exchange.incoming(rank))
        return self.number_bytes * sum(move.box.numel for move in moves if move.sender != rank)


def _numbers(placed: Iterable[WeightPlacement], rank: int) -> int:
    return sum(placement.boxes[rank].numel for placement in placed if rank in placement.boxes)


def _one_copy(target: Topology) -> list[int]:
    return [
        target.rank(RankCoordinates(pipeline, 0, 0, tensor))
        for pipeline in range(target.pipeline)
        for tensor in range(target.tensor)
    ]


def _rounds(exchanges: Sequence[WeightTransfer], room: int) -> Iterator[list[TransferPiece]]:
    """Yield parts that go together: `room` numbers of one rank at most, or one row of its blocks."""
    together: list[TransferPiece] = []
    taken = 0
    for exchange in exchanges:
        most = exchange.most_at_once
        pieces = -(-most // room)
        if together and taken + most > room:
            yield together
            together, taken = [], 0
        if pieces > 1:
            yield from ([TransferPiece(exchange, number, pieces)] for number in range(pieces))
        else:
            together.append(TransferPiece(exchange, 0, 1))
            taken += most
    if together:
        yield together
