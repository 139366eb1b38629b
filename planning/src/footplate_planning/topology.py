"""Grid of ranks: pure arithmetic on degrees, before any process exists.

Ranks form a grid, outermost axis first: pipeline x data x context x tensor.
Neighbours in rank communicate most (tensor), the ends of the grid least (pipeline),
as machines are wired. Data and context ranks hold the same layers; `sharding` cuts
them once more, into copies of the parameters x shards of a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise, product
from typing import TYPE_CHECKING, Self

from footplate_contracts.v1alpha1.parallelism import Parallelism, PipelineSchedule, Sharding
from footplate_contracts.v1alpha1.rollout import RolloutParallelism

if TYPE_CHECKING:  # a coordinator reckons with nodes, and needs no word for networks
    from footplate_planning.shape import ModelShape


@dataclass(frozen=True)
class RankCoordinates:
    """Coordinates of a rank."""

    pipeline: int
    data: int
    context: int
    tensor: int


@dataclass(frozen=True)
class Topology:
    """The grid; `replicas` counts for hybrid sharding only."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    sharding: Sharding = Sharding.FULL
    replicas: int = 1
    virtual_stages: int = 1
    schedule: PipelineSchedule = PipelineSchedule.ONE_FORWARD_ONE_BACKWARD

    @classmethod
    def of(cls, world_size: int, parallelism: Parallelism) -> Self:
        """Build the grid of `world_size` ranks; ValueError when they cannot form it."""
        one_copy = parallelism.tensor * parallelism.pipeline * parallelism.context
        if world_size < 1 or world_size % one_copy:
            raise ValueError(
                f"{world_size} ranks cannot be divided into slices of tensor {parallelism.tensor} x pipeline"
                f" {parallelism.pipeline} x context {parallelism.context} = {one_copy}; use a multiple"
            )
        data = world_size // one_copy
        if parallelism.sharding is Sharding.HYBRID and data % parallelism.replicas:
            raise ValueError(
                f"replicas {parallelism.replicas} does not divide the {data} data-parallel ranks "
                f"({world_size} ranks / {one_copy}); each copy is sharded over equally many"
            )
        return cls(
            data=data,
            tensor=parallelism.tensor,
            pipeline=parallelism.pipeline,
            context=parallelism.context,
            sharding=parallelism.sharding,
            replicas=parallelism.replicas,
            virtual_stages=parallelism.virtual_stages,
            schedule=parallelism.pipeline_schedule,
        )

    def micro_batches(self, global_batch_size: int, micro_batch_size: int) -> int:
        """Return the micro-batches of each rank in a step; ranks with fewer get empty ones."""
        return -(-global_batch_size // (micro_batch_size * self.data))

    @property
    def world_size(self) -> int:
        """Number of all ranks."""
        return self.pipeline * self.data * self.context * self.tensor

    @property
    def copies(self) -> int:
        """Whole copies of each parameter among the data and context ranks."""
        if self.sharding is Sharding.NONE:
            return self.data * self.context
        return self.replicas if self.sharding is Sharding.HYBRID else 1

    @property
    def shards(self) -> int:
        """Ranks that together hold one copy of parameters and optimizer state."""
        return self.data * self.context // self.copies

    @property
    def has_data_ranks(self) -> bool:
        """True if other ranks hold the same layers: shards of this rank's parameters, or copies."""
        return self.data * self.context > 1

    @property
    def stages(self) -> int:
        """Pieces that the layers are cut into."""
        return self.pipeline * self.virtual_stages

    def coordinates(self, rank: int) -> RankCoordinates:
        """Return the coordinates of `rank`."""
        rank, tensor = divmod(rank, self.tensor)
        rank, context = divmod(rank, self.context)
        pipeline, data = divmod(rank, self.data)
        return RankCoordinates(pipeline, data, context, tensor)

    def rank(self, place: RankCoordinates) -> int:
        """Return the rank with these coordinates."""
        outer = (place.pipeline * self.data + place.data) * self.context + place.context
        return outer * self.tensor + place.tensor

    def copy_of(self, rank: int) -> int:
        """Return the number of `rank`'s copy of its parameters; copy 0 reports values that all share."""
        place = self.coordinates(rank)
        return (place.data * self.context + place.context) // self.shards

    def counts_samples(self, rank: int) -> bool:
        """Return whether `rank` counts the samples that its pipeline, context and tensor peers hold too."""
        place = self.coordinates(rank)
        return place.pipeline == place.context == place.tensor == 0

    def stages_of(self, pipeline: int) -> tuple[int, ...]:
        """Return the stages of ranks with this pipeline coordinate: dealt in turn or, for ZBV, in a V."""
        if self.schedule is PipelineSchedule.ZBV and self.pipeline > 1:
            return pipeline, self.stages - 1 - pipeline
        return tuple(range(pipeline, self.stages, self.pipeline))

    def context_groups(self) -> Iterator[list[int]]:
        """Yield the ranks that share the same sequences, group by group."""
        for pipeline, data, tensor in product(range(self.pipeline), range(self.data), range(self.tensor)):
            yield [self.rank(RankCoordinates(pipeline, data, part, tensor)) for part in range(self.context)]

    def copy_groups(self) -> Iterator[list[int]]:
        """Yield the ranks that hold one copy of the whole network together where each data rank has one."""
        for data in range(self.data):
            yield [rank for rank in range(self.world_size) if self.coordinates(rank).data == data]

    def holder_groups(self, holders: Sequence[int]) -> Iterator[list[int]]:
        """Yield the ranks that differ in their pipeline coordinate only, which is one of `holders`."""
        for data, part, tensor in product(range(self.data), range(self.context), range(self.tensor)):
            yield [self.rank(RankCoordinates(pipeline, data, part, tensor)) for pipeline in holders]


def context_chunks(part: int, context: int) -> tuple[int, int]:
    """Return the two of 2 x `context` pieces of a sequence that context rank `part` computes.

    Head-tail: the cost of causal attention on a piece grows with the distance of its end from
    the beginning, and a piece from each end makes all ranks equal.
    """
    return part, 2 * context - 1 - part


def split_layers(costs: Sequence[float], stages: int, first: float, last: float) -> tuple[range, ...]:
    """Split consecutive layers into stages so that the most expensive stage is as cheap as possible.

    `costs` of the layers in any unit; `first` and `last` are those of embedding
    and output head, which the outer stages have on top. Each stage has a layer.
    Of equal splits, the earliest cuts win, seen from the end.
    """
    layers = len(costs)
    if stages > layers:
        raise ValueError(f"{layers} layers cannot be split into {stages} pipeline stages")
    sums = list(accumulate(costs, initial=0.0))
    # dearest[n]: cost of the dearest stage when the first n layers fill the stages so far
    dearest = [math.inf, *(first + total for total in sums[1:])]
    cuts: list[list[int]] = []  # of each further stage: where it begins when it ends before layer n
    for stage in range(2, stages + 1):
        extra = last if stage == stages else 0.0
        found = [_best_cut(dearest, sums, stage, end, extra) for end in range(layers + 1)]
        dearest = [cost for cost, _ in found]
        cuts.append([cut for _, cut in found])
    ends = [layers]
    for begins in reversed(cuts):
        ends.append(begins[ends[-1]])
    return tuple(range(start, end) for start, end in pairwise((0, *reversed(ends))))


def _best_cut(
    dearest: list[float], sums: list[float], stage: int, end: int, extra: float
) -> tuple[float, int]:
    """Return (cost of the dearest stage, first layer of the last) of `stage` stages before layer `end`."""
    best = (math.inf, 0)
    for cut in range(end - 1, stage - 2, -1):
        own = sums[end] - sums[cut] + extra
        if own > best[0]:
            break  # an earlier cut makes the last stage dearer still
        best = min(best, (max(dearest[cut], own), cut))
    return best


@lru_cache(maxsize=64)  # a plan asks for each rank and micro-batch size
def stage_layers(shape: ModelShape, topology: Topology) -> tuple[range, ...]:
    """Return the layers of each pipeline stage.

    A layer costs its multiplications; a token is looked up in the embedding and
    multiplied with the whole head, or a sequence with that of scores.
    """
    scores = 2 * shape.context * shape.heads * shape.head_size
    costs = [float(shape.block_parameters(block) + scores) for block in range(shape.blocks)]
    return split_layers(costs, topology.stages, float(shape.hidden), float(shape.projection))


def schedule_problem(topology: Topology, micro_batches: int) -> str | None:
    """Return the requirement of the schedule that a rank's `micro_batches` a step fail; None if they fit."""
    schedule, stages = topology.schedule, topology.pipeline
    if stages == 1:
        return None
    if schedule is PipelineSchedule.ONE_FORWARD_ONE_BACKWARD and micro_batches < stages:
        return f"1F1B needs at least as many as pipeline {stages}"
    if schedule in (PipelineSchedule.INTERLEAVED, PipelineSchedule.INTERLEAVED_ZERO_BUBBLE):
        rounds = max(1, micro_batches // stages)
        if micro_batches % rounds:
            return f"{schedule} needs a multiple of its {rounds} rounds of {stages}"
    return None


def legal_node_counts(
    minimum: int,
    maximum: int,
    processes_per_node: int,
    parallelism: Parallelism,
    micro_batches: int,
    rollout: RolloutParallelism | None = None,
) -> tuple[int, ...]:
    """Return the node counts from `minimum` to `maximum` whose ranks form both grids and suit the schedule.

    `micro_batches` make up the global batch. A count that does not divide them
    is legal: the shorter ranks get empty ones. `rollout` is of a run that generates.
    """
    copy = rollout.tensor * rollout.pipeline if rollout else 1
    return tuple(
        count
        for count in range(minimum, maximum + 1)
        if count * processes_per_node % copy == 0
        and _forms(count * processes_per_node, parallelism, micro_batches)
    )


def _forms(world_size: int, parallelism: Parallelism, micro_batches: int) -> bool:
    try:
        topology = Topology.of(world_size, parallelism)
    except ValueError:
        return False
    return schedule_problem(topology, topology.micro_batches(micro_batches, 1)) is None
