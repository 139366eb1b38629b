"""Compatibility of features, and errors for a run that combines others: before any rank starts.

A table of refused pairs of features has the reason for each; all other pairs work. The
documentation prints it, `find_problems` refuses by it, and the layout tests run the pairs that
work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import combinations

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.model import Architecture
from footplate_contracts.v1alpha1.parallelism import Offload, PipelineSchedule, Sharding
from footplate_contracts.v1alpha1.rollout import RolloutParallelism
from footplate_contracts.v1alpha1.training import ActivationCheckpointing, LossName, Precision
from footplate_planning.config import model_shape
from footplate_planning.shape import ModelShape, is_target
from footplate_planning.topology import Topology, schedule_problem


class Feature(StrEnum):
    """Feature that a run may use."""

    NONE = "sharding: none"
    ZERO_1 = "sharding: zero1"
    FULL = "sharding: full"
    HYBRID = "sharding: hybrid"
    TENSOR = "tensor"
    CONTEXT = "context"
    GPIPE = "GPipe"
    ONE_FORWARD_ONE_BACKWARD = "1F1B"
    INTERLEAVED = "Interleaved1F1B"
    INTERLEAVED_ZERO_BUBBLE = "InterleavedZeroBubble"
    ZBV = "ZBV"
    TIED = "tiedEmbeddings"
    ENCODER_DECODER = "encoder-decoder"
    ATTENTION_DROPOUT = "dropout.attention"
    BF16 = "bf16"
    ACTIVATION_CHECKPOINTING = "activationCheckpointing"
    COMPILE = "compile"
    ADAPTER = "adapter"
    OFFLOAD = "offload: cpu"
    BATCH_INVARIANT = "batchInvariant"


SCHEDULES = {
    Feature.GPIPE: PipelineSchedule.GPIPE,
    Feature.ONE_FORWARD_ONE_BACKWARD: PipelineSchedule.ONE_FORWARD_ONE_BACKWARD,
    Feature.INTERLEAVED: PipelineSchedule.INTERLEAVED,
    Feature.INTERLEAVED_ZERO_BUBBLE: PipelineSchedule.INTERLEAVED_ZERO_BUBBLE,
    Feature.ZBV: PipelineSchedule.ZBV,
}
SHARDINGS = {
    Feature.NONE: Sharding.NONE,
    Feature.ZERO_1: Sharding.ZERO_1,
    Feature.FULL: Sharding.FULL,
    Feature.HYBRID: Sharding.HYBRID,
}

_SPLIT_BACKWARD = (Feature.INTERLEAVED_ZERO_BUBBLE, Feature.ZBV)
REFUSED: dict[frozenset[Feature], str] = {
    frozenset((Feature.CONTEXT, Feature.ENCODER_DECODER)): (
        "its relative bias depends on distances in whole sequences"
    ),
    frozenset((Feature.CONTEXT, Feature.ATTENTION_DROPOUT)): (
        "it needs all attention weights at once, which context parallelism never builds"
    ),
    **{
        frozenset((schedule, Feature.ENCODER_DECODER)): (
            "its blocks share a relative bias, whose backward pass a zero-bubble schedule cannot split"
        )
        for schedule in _SPLIT_BACKWARD
    },
    **{
        frozenset((schedule, Feature.ACTIVATION_CHECKPOINTING)): (
            "a zero-bubble schedule computes the gradients of inputs and of weights at different times, and"
            " recomputed activations are freed after the first"
        )
        for schedule in _SPLIT_BACKWARD
    },
    **{
        frozenset((schedule, Feature.COMPILE)): (
            "a zero-bubble schedule splits the backward pass, which a compiled model does not allow"
        )
        for schedule in _SPLIT_BACKWARD
    },
    frozenset((Feature.CONTEXT, Feature.BATCH_INVARIANT)): (
        "the ranks that share a sequence sum its attention in an order of their own"
    ),
    frozenset((Feature.COMPILE, Feature.BATCH_INVARIANT)): "a compiler fuses tiles that must stay separate",
    frozenset((Feature.ENCODER_DECODER, Feature.BATCH_INVARIANT)): "only a decoder generates",
    frozenset((Feature.ATTENTION_DROPOUT, Feature.BATCH_INVARIANT)): (
        "training would use dropout and generation would not"
    ),
}
"""Pairs that do not work, and the reason."""


def features(config: RunConfig) -> list[Feature]:
    """Return the features that `config` uses, in the order of Feature."""
    parallelism, shape = config.parallelism, model_shape(config)
    pipelined = parallelism.pipeline > 1
    asked: dict[Feature, bool] = {
        **{feature: parallelism.sharding is value for feature, value in SHARDINGS.items()},
        Feature.TENSOR: parallelism.tensor > 1,
        Feature.CONTEXT: parallelism.context > 1,
        **{
            feature: pipelined and parallelism.pipeline_schedule is value
            for feature, value in SCHEDULES.items()
        },
        Feature.TIED: shape.tied_embeddings,
        Feature.ENCODER_DECODER: shape.decoder_layers > 0,
        Feature.ATTENTION_DROPOUT: config.model.dropout.attention > 0,
        Feature.BF16: config.training.precision is Precision.BF16,
        Feature.ACTIVATION_CHECKPOINTING: config.training.activation_checkpointing
        is not ActivationCheckpointing.NONE,
        Feature.COMPILE: config.training.compile,
        Feature.ADAPTER: config.model.adapter is not None,
        Feature.OFFLOAD: parallelism.offload is Offload.CPU,
        Feature.BATCH_INVARIANT: config.rollout is not None and config.rollout.batch_invariant,
    }
    return [feature for feature in Feature if asked[feature]]


def find_problems(config: RunConfig, world_size: int) -> list[str]:
    """Return the reasons why `config` cannot run on `world_size` ranks, a sentence each; empty if it can."""
    try:
        topology = Topology.of(world_size, config.parallelism)
    except ValueError as error:
        return [str(error)]
    conflicts = [
        f"{feature} and {other} do not work together: {REFUSED[pair]}"
        for feature, other in combinations(features(config), 2)
        if (pair := frozenset((feature, other))) in REFUSED
    ]
    shape = model_shape(config)
    return [*conflicts, *(problem for check in _CHECKS for problem in check(config, shape, topology))]


def find_rollout_problems(
    shape: ModelShape, parallelism: RolloutParallelism, world_size: int, of: str = "rollout.parallelism."
) -> list[str]:
    """Return the reasons why `world_size` ranks cannot generate with `shape` so, a sentence each.

    `of` is the prefix of the fields' names. A vocabulary need not be a multiple of the tensor ranks: ranks
    compute nothing of its columns but logits.
    """
    tensor, pipeline = parallelism.tensor, parallelism.pipeline
    found = []
    if world_size % (tensor * pipeline):
        found.append(
            f"{world_size} ranks cannot be divided into copies of {of}tensor {tensor} x {of}pipeline"
            f" {pipeline} = {tensor * pipeline}; use degrees that divide them"
        )
    if shape.architecture is not Architecture.DECODER:
        found.append(f"model.architecture {shape.architecture} cannot generate; use decoder")
    found += _matrices(shape, tensor, f"{of}tensor")
    if shape.blocks < pipeline:
        found.append(
            f"model.layers {shape.blocks} are fewer than the stages of {of}pipeline {pipeline}; each stage "
            "needs a layer"
        )
    return found


def _rollout(config: RunConfig, shape: ModelShape, topology: Topology) -> Iterator[str]:
    if config.rollout is None:
        return
    yield from find_rollout_problems(shape, config.rollout.parallelism, topology.world_size)
    dropout, adapter = config.model.dropout, config.model.adapter
    rates = {
        "dropout.hidden": dropout.hidden,
        "dropout.embedding": dropout.embedding,
        "adapter.dropout": adapter.dropout if adapter is not None else 0.0,
    }
    for name, rate in rates.items():
        if config.rollout.batch_invariant and rate > 0:
            yield (
                f"model.{name} {rate} does not work with rollout.batchInvariant: training would use dropout"
                " and generation would not; set it to 0, or remove batchInvariant"
            )


def _tensor(config: RunConfig, shape: ModelShape, topology: Topology) -> Iterator[str]:
    ranks, size = topology.tensor, shape.vocabulary
    if size % ranks:
        remedy = f"use {-(-size // ranks) * ranks}"
        if config.init_from is not None:
            remedy += ", with model.resizeTokenEmbeddings to enlarge that of initFrom"
        yield f"model.vocabularySize {size} is not a multiple of parallelism.tensor {ranks}; {remedy}"
    yield from _matrices(shape, ranks, "parallelism.tensor")


def _matrices(shape: ModelShape, ranks: int, field: str) -> Iterator[str]:
    """Yield the reasons why the `ranks` of `field` cannot share the matrices of blocks."""
    for name, size in (("attentionHeads", shape.heads), ("feedForwardSize", shape.feed_forward)):
        if size % ranks:
            above = -(-size // ranks) * ranks
            yield f"model.{name} {size} is not a multiple of {field} {ranks}; use {above}"
    heads = shape.key_value_heads
    if heads % ranks and ranks % heads:
        yield f"model.keyValueHeads {heads} and {field} {ranks}: one must be a multiple of the other"


def _context(_: RunConfig, shape: ModelShape, topology: Topology) -> Iterator[str]:
    pieces = topology.context * topology.tensor
    if topology.context > 1 and topology.tensor % 2:
        pieces *= 2  # a piece of each end
    if shape.context % pieces:
        yield (
            f"model.contextLength {shape.context} cannot be split into {pieces} equal pieces for context"
            f" {topology.context} x tensor {topology.tensor}; use a multiple of {pieces}"
        )


def _stages(_: RunConfig, shape: ModelShape, topology: Topology) -> Iterator[str]:
    if shape.blocks < topology.stages:
        yield (
            f"model.layers {shape.blocks} are fewer than the {topology.stages} stages of pipeline "
            f"{topology.pipeline} x virtualStages {topology.virtual_stages}; each stage needs a layer"
        )


def _micro_batches(config: RunConfig, _: ModelShape, topology: Topology) -> Iterator[str]:
    training = config.training
    count = topology.micro_batches(training.global_batch_size, training.micro_batch_size)
    wanted = schedule_problem(topology, count)
    if wanted is not None:
        yield (
            f"globalBatchSize {training.global_batch_size} / microBatchSize {training.micro_batch_size} over"
            f" {topology.data} data-parallel ranks makes {count} micro-batches, and {wanted}"
        )


def _adapter(config: RunConfig, shape: ModelShape, _: Topology) -> Iterator[str]:
    if shape.adapter is None:
        return
    layers = shape.linear_layers()
    for pattern in shape.adapter.targets:
        if not any(is_target(name, pattern) for name in layers):
            names = dict.fromkeys(name.rpartition(".")[2] for name in layers)
            yield (
                f"model.adapter.targetModules: no linear layer matches {pattern}; names are"
                f" {', '.join(names)}, in full such as {next(iter(layers))}"
            )
    adapted, rank = shape.adapted_layers(), shape.adapter.rank
    if adapted and rank > (most := min(min(sizes) for sizes in adapted.values())):
        name, (inputs, outputs) = next(item for item in adapted.items() if min(item[1]) == most)
        yield (
            f"model.adapter.rank {rank} is above the smaller side of {name}, which has {inputs} inputs and"
            f" {outputs} outputs; use at most {most}"
        )
    if "head" in adapted and config.training.loss.name == LossName.CONTRASTIVE:
        yield "model.adapter.targetModules: loss contrastive does not use head, so nothing would train it"


_CHECKS: tuple[Callable[[RunConfig, ModelShape, Topology], Iterator[str]], ...] = (
    _tensor,
    _context,
    _stages,
    _micro_batches,
    _adapter,
    _rollout,
)
