"""Plan of a run on any number of ranks, without starting one. Pure.

Ranks that differ in data, context and tensor coordinate only are alike, so a
plan has a row for each place in the pipeline, however many ranks there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.parallelism import Offload
from footplate_planning import memory
from footplate_planning.config import model_shape
from footplate_planning.flops import Convention, block_flops, flops_per_token, head_flops
from footplate_planning.memory import MemoryEstimate, MicroBatches, StepConfig
from footplate_planning.rollout import PlannedRollout, plan_rollout
from footplate_planning.shape import ModelShape
from footplate_planning.span_corruption import decoder_length
from footplate_planning.topology import Topology, stage_layers
from footplate_planning.traffic import Traffic, estimate_traffic


@dataclass(frozen=True)
class PlannedRank:
    """Memory and work of each rank with one pipeline coordinate."""

    pipeline: int
    layers: list[int]
    parameters: int  # of its stages, its tensor cut; before data parallelism shards them
    trained: int  # of these
    flops: float  # a step, full attention
    flops_causal: float
    memory: MemoryEstimate
    traffic: Traffic  # a step's


@dataclass(frozen=True)
class Plan:
    """Layout and costs of a run on `topology`."""

    config: RunConfig
    shape: ModelShape
    topology: Topology
    batch: MicroBatches
    device: str
    ranks: list[PlannedRank]
    frozen: Sequence[ModelShape] = ()  # models that are computed and not trained, held beside it
    rollout: PlannedRollout | None = None  # of a run that generates
    value: ModelShape | None = None  # that is trained beside it

    @property
    def trains(self) -> bool:
        """True if a step has a pass that moves weights; otherwise it is a rollout and no more."""
        return STAGES[self.config.stage].trains

    @property
    def step_tokens(self) -> int:
        """Tokens in a global batch, padding included."""
        return self.config.training.global_batch_size * self.shape.context

    def flops_per_token(self, convention: Convention) -> float:
        """Return the FLOPs of forward and backward for each of `step_tokens`; 0 where nothing trains."""
        if not self.trains:
            return 0.0
        return flops_per_token(self.shape, self.shape.context, convention, decoder_length(self.config))


def build_plan(
    config: RunConfig,
    ranks: int,
    device: str,
    frozen: Sequence[ModelShape] = (),
    value: ModelShape | None = None,
    rank_memory: int | None = None,
) -> Plan:
    """Plan `config`, which `compatibility` allows, on `ranks` ranks of `device`, "cpu" or "cuda".

    `frozen` are models that the ranks hold beside the model that they train, in its layout; `value` is a
    second one that they train. A row's numbers of parameters, FLOPs and bytes sent are of the first alone.
    With `rank_memory`, a rank's bytes, a rollout's cache takes what fits into the rest.
    """
    topology, shape = Topology.of(ranks, config.parallelism), model_shape(config)
    training, step = config.training, step_of(config, topology, device)
    layers = stage_layers(shape, topology)
    sequences = training.global_batch_size / topology.data
    rows = []
    for pipeline in range(topology.pipeline):
        held = memory.local_counts(shape, topology, pipeline)
        others = sum(memory.frozen_bytes(other, topology, pipeline) for other in frozen)
        estimate = memory.estimate(shape, topology, pipeline, step, training.optimizer).with_frozen(others)
        if value is not None:
            estimate = estimate.at_once(memory.trained_bytes(value, topology, pipeline, training.optimizer))
        if config.parallelism.offload is Offload.CPU and device != "cpu":
            estimate = estimate.offloaded()
        stages = topology.stages_of(pipeline)
        numbers = [number for stage in stages for number in layers[stage]]
        full, causal = (
            sequences * _flops(shape, topology, step, numbers, topology.stages - 1 in stages, convention)
            for convention in (Convention.FULL, Convention.CAUSAL)
        )
        moved = estimate_traffic(shape, topology, pipeline, step)
        rows.append(PlannedRank(pipeline, numbers, held.all, held.trained, full, causal, estimate, moved))
    if not STAGES[config.stage].trains:
        rows = [
            replace(
                row,
                trained=0,
                flops=0.0,
                flops_causal=0.0,
                memory=_answering(shape, topology, row.pipeline, step, frozen),
                traffic={},
            )
            for row in rows
        ]
    rollout = None
    if config.rollout is not None:
        left = rank_memory and rank_memory - max(row.memory.resident for row in rows)
        batch = training.global_batch_size
        rollout = plan_rollout(shape, config.rollout, batch, ranks, step.compute, device, left)
    return Plan(config, shape, topology, step.batch, device, rows, frozen, rollout, value)


def _answering(
    shape: ModelShape, topology: Topology, pipeline: int, step: StepConfig, frozen: Sequence[ModelShape]
) -> MemoryEstimate:
    """Estimate the memory of a rank that trains nothing: the peak while one of `frozen` scores answers."""
    others = sum(memory.frozen_bytes(other, topology, pipeline) for other in frozen)
    held = memory.resting_estimate(shape, topology, pipeline).with_frozen(others)
    moments = [held.at_once(memory.scoring_bytes(other, topology, pipeline, step)) for other in frozen]
    return max(moments, key=attrgetter("peak"), default=held)


def step_of(config: RunConfig, topology: Topology, device: str) -> StepConfig:
    """Return the settings of `config` behind a rank's memory and traffic on `topology`."""
    training = config.training
    count = topology.micro_batches(training.global_batch_size, training.micro_batch_size)
    return StepConfig(
        MicroBatches(training.micro_batch_size, count),
        training.precision,
        training.activation_checkpointing,
        decoder_length(config),
        device,
    )


def _flops(
    shape: ModelShape,
    topology: Topology,
    step: StepConfig,
    numbers: Sequence[int],
    is_last: bool,
    convention: Convention,
) -> float:
    """Return the FLOPs of these blocks for one sequence on each of the ranks that share it."""
    length, behind = shape.context, step.decoder_length
    blocks = sum(block_flops(shape, number, length, convention, behind) for number in numbers)
    head = head_flops(shape, length, behind) if is_last else 0.0
    return (blocks + head) / (topology.context * topology.tensor)
