"""Selects the newest complete copy in the nodes' memory, and the transfers that restore it; pure.

A copy contains the state of all ranks after one step, and each rank's part of it is a shard. A node stores
the shards of its own ranks and of its partner's, so a lost node's shards exist elsewhere. See
docs/decisions/ADR-0006-memory-checkpoints.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.layout import GenerationStart

KEPT: Final = 2  # steps: the newest one may be incomplete when a rank dies
_NAME = re.compile(r"step-(\d+)\.e(\d+)g(\d+)\.(\d+)-of-(\d+)")


@dataclass(frozen=True, order=True)
class MemoryCopy:
    """The state of all ranks after one step of one generation."""

    step: int
    epoch: int
    number: int
    ranks: int

    @property
    def generation(self) -> GenerationId:
        """The generation that made it."""
        return GenerationId(epoch=self.epoch, number=self.number)

    @classmethod
    def of(cls, step: int, generation: GenerationId, ranks: int) -> MemoryCopy:
        """Return the copy that `generation` of so many `ranks` makes at `step`."""
        return cls(step, generation.epoch, generation.number, ranks)


@dataclass(frozen=True, order=True)
class CopyShard:
    """A rank's part of a copy, stored as a file."""

    copy: MemoryCopy
    rank: int

    @property
    def name(self) -> str:
        """The name of its file."""
        copy = self.copy
        return f"step-{copy.step}.e{copy.epoch}g{copy.number}.{self.rank}-of-{copy.ranks}"

    @classmethod
    def parse(cls, name: str) -> CopyShard | None:
        """Parse a file name; None for any other name."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        step, epoch, number, rank, ranks = map(int, match.groups())
        return cls(MemoryCopy(step, epoch, number, ranks), rank)


def newest_complete(
    held: Sequence[Iterable[CopyShard]], ranks: int, begun: Iterable[GenerationStart]
) -> MemoryCopy | None:
    """Return the newest copy of a world of `ranks` that has all its shards somewhere; `held` by rank. Pure.

    A discarded copy does not count: a later generation has `begun` at an earlier step. Nodes that were not
    part of that generation still store the copy.
    """
    everywhere = {shard for shards in held for shard in shards}
    given_up = {
        shard.copy
        for shard in everywhere
        if any(later.discards(shard.copy.step, shard.copy.generation) for later in begun)
    }
    copies = {shard.copy for shard in everywhere if shard.copy.ranks == ranks} - given_up
    complete = [copy for copy in copies if all(CopyShard(copy, rank) in everywhere for rank in range(ranks))]
    return max(complete, default=None)


def transfers(held: Sequence[Iterable[CopyShard]], copy: MemoryCopy) -> list[tuple[int, int]]:
    """List (holder, receiver) for each rank whose node does not store its own shard of `copy`. Pure."""
    holders = [set(shards) for shards in held]
    return [
        (next(rank for rank, shards in enumerate(holders) if CopyShard(copy, receiver) in shards), receiver)
        for receiver in range(copy.ranks)
        if CopyShard(copy, receiver) not in holders[receiver]
    ]
