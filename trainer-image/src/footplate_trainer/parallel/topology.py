"""Which rank does what: pure arithmetic on degrees, before any process exists.

Today's ranks differ in data only. The grid is still named by its axes, so that
what asks "which samples are mine" keeps its question when axes are added.
"""

from __future__ import annotations

from dataclasses import dataclass

from footplate_contracts.v1alpha1.training import Sharding


@dataclass(frozen=True)
class Topology:
    """A grid of `world_size` ranks: data-parallel copies x shards of one copy."""

    world_size: int
    sharding: Sharding

    def __post_init__(self) -> None:
        if self.world_size < 1:
            raise ValueError(f"world size must be at least 1, not {self.world_size}")

    @property
    def data_degree(self) -> int:
        """Ranks among which the samples of a step are dealt."""
        return self.world_size

    @property
    def shards(self) -> int:
        """Ranks that together hold one copy of parameters and optimizer state."""
        return self.world_size if self.sharding is Sharding.FULL else 1

    @property
    def replicas(self) -> int:
        """Copies of the sharded state."""
        return self.world_size // self.shards

    def replica_of(self, rank: int) -> int:
        """Which copy `rank` belongs to; replica 0 speaks for values that all copies share."""
        return rank // self.shards


def legal_node_counts(
    minimum: int, maximum: int, processes_per_node: int, ranks_per_copy: int = 1
) -> tuple[int, ...]:
    """Node counts from `minimum` to `maximum` whose ranks make whole copies of the model.

    `ranks_per_copy` is tensor x pipeline x context. A count that does not divide
    the micro-batches is legal: the shorter ranks get empty ones.
    """
    counts = range(minimum, maximum + 1)
    return tuple(count for count in counts if count * processes_per_node % ranks_per_copy == 0)
