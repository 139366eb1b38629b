"""Copies of the state in the memory of nodes: which of them counts, and who sends what to whom; pure.

A copy is of all ranks after one step, and each rank's part of it is a shard. A
node holds the shards of its own ranks and of its partner's, so a lost node's are
somewhere else. See docs/decisions/ADR-0006-memory-checkpoints.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.layout import Begun

KEPT: Final = 2  # steps: the newest one may be incomplete when a rank dies
_NAME = re.compile(r"step-(\d+)\.e(\d+)g(\d+)\.(\d+)-of-(\d+)")


@dataclass(frozen=True, order=True)
class MemoryCopy:
    """All ranks' state after one step of one generation."""

    step: int
    epoch: int
    number: int
    ranks: int

    @property
    def generation(self) -> GenerationId:
        """Who made it."""
        return GenerationId(epoch=self.epoch, number=self.number)

    @classmethod
    def of(cls, step: int, generation: GenerationId, ranks: int) -> MemoryCopy:
        """The copy that `generation` of so many `ranks` makes at `step`."""
        return cls(step, generation.epoch, generation.number, ranks)


@dataclass(frozen=True, order=True)
class CopyShard:
    """One rank's part of a copy, which is a file."""

    copy: MemoryCopy
    rank: int

    @property
    def name(self) -> str:
        """Its file."""
        copy = self.copy
        return f"step-{copy.step}.e{copy.epoch}g{copy.number}.{self.rank}-of-{copy.ranks}"

    @classmethod
    def parse(cls, name: str) -> CopyShard | None:
        """The inverse of `name`; None for anything else."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        step, epoch, number, rank, ranks = map(int, match.groups())
        return cls(MemoryCopy(step, epoch, number, ranks), rank)


def newest_complete(
    held: Sequence[Iterable[CopyShard]], ranks: int, begun: Iterable[Begun]
) -> MemoryCopy | None:
    """The newest copy of a world of `ranks` that has all its shards somewhere; `held` by rank. Pure.

    One that was given up does not count: a generation has `begun` since then, and with an earlier step.
    Whoever was not in that one still has the copy.
    """
    everywhere = {shard for shards in held for shard in shards}
    given_up = {
        shard.copy
        for shard in everywhere
        if any(later.gives_up(shard.copy.step, shard.copy.generation) for later in begun)
    }
    copies = {shard.copy for shard in everywhere if shard.copy.ranks == ranks} - given_up
    complete = [copy for copy in copies if all(CopyShard(copy, rank) in everywhere for rank in range(ranks))]
    return max(complete, default=None)


def transfers(held: Sequence[Iterable[CopyShard]], copy: MemoryCopy) -> list[tuple[int, int]]:
    """(holder, receiver) for each rank whose node does not hold its own shard of `copy`. Pure."""
    holders = [set(shards) for shards in held]
    return [
        (next(rank for rank, shards in enumerate(holders) if CopyShard(copy, receiver) in shards), receiver)
        for receiver in range(copy.ranks)
        if CopyShard(copy, receiver) not in holders[receiver]
    ]
