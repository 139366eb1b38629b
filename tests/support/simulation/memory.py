"""Copies of the state in the memory of nodes: which one counts is decided by the trainer's own functions.

The ranks of an agent are one rank here. What they hold of a state is its past: who trained each step of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from footplate_contracts.reports import GenerationId, GenerationRow
from footplate_trainer.checkpoint.layout import GenerationStart
from footplate_trainer.checkpoint.memory.copies import KEPT, CopyShard, MemoryCopy, newest_complete


@dataclass(frozen=True)
class State:
    """What was trained: by whom, step after step from the first, and the rows that may not be stored."""

    past: tuple[GenerationId, ...] = ()
    rows: tuple[GenerationRow, ...] = ()

    @property
    def step(self) -> int:
        """The last one."""
        return len(self.past)


@dataclass
class NodeMemory:
    """The folder that an agent has given its ranks; it ends with the agent."""

    shards: dict[CopyShard, State] = field(default_factory=dict)

    def keep(self, state: State, generation: GenerationId, ranks: int, rank: int) -> None:
        """Copy this rank's part and that of the rank before, of which the newest few stay."""
        copy = MemoryCopy.of(state.step, generation, ranks)
        for holder in (rank, (rank - 1) % ranks):
            self.shards[CopyShard(copy, holder)] = state
            mine = sorted(shard for shard in self.shards if shard.rank == holder)
            for shard in mine[:-KEPT]:
                del self.shards[shard]

    def keep_only(self, copy: MemoryCopy | None) -> None:
        """Remove all others."""
        self.shards = {shard: state for shard, state in self.shards.items() if shard.copy == copy}


def newest(
    held: Sequence[dict[CopyShard, State]], begun: Sequence[GenerationStart], durable: int
) -> tuple[MemoryCopy, State] | None:
    """The copy to go on from, unless the durable step is newer; `held` by rank."""
    copy = newest_complete(held, len(held), begun)
    if copy is None or durable > copy.step:
        return None
    states = [shards[shard] for shards in held for shard in shards if shard.copy == copy]
    return copy, states[0]
