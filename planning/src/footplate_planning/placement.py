"""Placement of each weight's blocks on the ranks of a layout. Pure.

A rank holds one block of a weight, or none: a range of each dimension. Tensor ranks
cut first, along the dimension that the weight names; data and context ranks cut
the rows of what that left, where they share a copy. Both as torch.chunk does: all parts
but the last have the length divided by their number, rounded up, and some may be empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from footplate_planning.shape import ModelShape, Weight
from footplate_planning.stage_weights import list_stage_weights
from footplate_planning.topology import Topology


@dataclass(frozen=True)
class TensorRegion:
    """A range of each dimension of a tensor."""

    start: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Count of the numbers in it."""
        return prod(self.size)

    def intersection(self, other: TensorRegion) -> TensorRegion | None:
        """Return the intersection with `other`; None if it is empty."""
        start = tuple(max(mine, theirs) for mine, theirs in zip(self.start, other.start, strict=True))
        ends = zip(self._end, other._end, start, strict=True)
        size = tuple(min(mine, theirs) - first for mine, theirs, first in ends)
        return TensorRegion(start, size) if all(length > 0 for length in size) else None

    def piece(self, number: int, of: int) -> TensorRegion:
        """Return the rows of piece `number` of `of`, about equally many in each; some may have none."""
        rows = self.size[0]
        first, end = rows * number // of, rows * (number + 1) // of
        return TensorRegion((self.start[0] + first, *self.start[1:]), (end - first, *self.size[1:]))

    @property
    def _end(self) -> tuple[int, ...]:
        return tuple(first + length for first, length in zip(self.start, self.size, strict=True))


@dataclass(frozen=True)
class WeightPlacement:
    """A weight's placement in a layout."""

    name: str
    shape: tuple[int, ...]
    boxes: dict[int, TensorRegion]  # by rank, in the order of ranks; of those that hold some of it

    @cached_property
    def holders(self) -> dict[TensorRegion, list[int]]:
        """Ranks that hold each of its boxes."""
        found: dict[TensorRegion, list[int]] = {}
        for rank, box in self.boxes.items():
            found.setdefault(box, []).append(rank)
        return found

    @property
    def largest(self) -> int:
        """Count of the numbers in the largest of its boxes."""
        return max(box.numel for box in self.holders)


def placements(shape: ModelShape, topology: Topology) -> Iterator[WeightPlacement]:
    """Yield all weights of a network, adapters' too, as `topology` lays them out; each once, by name."""
    stages = list_stage_weights(shape, topology)
    ranks_of = _ranks_by_pipeline(topology)
    weights: dict[str, Weight] = {}
    where: dict[str, list[int]] = {}
    for number, stage in enumerate(stages):
        pipeline = next(place for place in ranks_of if number in topology.stages_of(place))
        for weight in (weight for group in stage.groups for weight in group):
            weights.setdefault(weight.name, weight)
            held = where.setdefault(weight.name, [])
            if pipeline not in held:  # of a tied embedding a rank may have both stages
                held.append(pipeline)
    for name in sorted(weights):  # stages lie elsewhere in another layout
        ranks = sorted(rank for pipeline in where[name] for rank in ranks_of[pipeline])
        yield _placed(weights[name], topology, ranks)


def _ranks_by_pipeline(topology: Topology) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for rank in range(topology.world_size):
        found.setdefault(topology.coordinates(rank).pipeline, []).append(rank)
    return found


def _placed(weight: Weight, topology: Topology, ranks: list[int]) -> WeightPlacement:
    boxes: dict[tuple[int, int], TensorRegion] = {}
    held = {}
    for rank in ranks:
        place = topology.coordinates(rank)
        shard = (place.data * topology.context + place.context) % topology.shards
        tensor = 0 if weight.cut is None else place.tensor
        if (tensor, shard) not in boxes:
            boxes[tensor, shard] = _box(weight, topology, tensor, shard)
        held[rank] = boxes[tensor, shard]
    return WeightPlacement(weight.name, weight.shape, held)


def _box(weight: Weight, topology: Topology, tensor: int, shard: int) -> TensorRegion:
    start, size = [0] * len(weight.shape), list(weight.shape)
    cuts = [] if weight.cut is None else [(weight.cut, topology.tensor, tensor)]
    for dimension, parts, index in (*cuts, (0, topology.shards, shard)):
        length = size[dimension]
        share = -(-length // parts)
        first, end = min(index * share, length), min((index + 1) * share, length)
        start[dimension] += first
        size[dimension] = end - first
    return TensorRegion(tuple(start), tuple(size))
