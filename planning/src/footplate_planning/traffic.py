"""Traffic of a rank in one step: collectives, messages and their bytes, before any rank exists. Pure.

A layout over machines depends on the bytes of each axis. Each formula here stands
in docs/parallelism.md, and `bench/trainer/collectives.py` counts real steps and
finds the same numbers. Bytes are those that go into each call on one rank: the
shard for an all-gather, the whole for a reduce-scatter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from footplate_contracts.v1alpha1.model import Architecture
from footplate_contracts.v1alpha1.parallelism import Sharding
from footplate_contracts.v1alpha1.training import ActivationCheckpointing
from footplate_planning.memory import FP32, StepConfig, loss_chunk
from footplate_planning.shape import ModelShape, Weight
from footplate_planning.stage_weights import StageWeights, list_stage_weights
from footplate_planning.topology import Topology

FLAGS: Final = 3  # that ride along with the count of valid tokens, see StepFlags of the trainer's loop
_COUNTS: Final = (1 + FLAGS) * 8  # int64
_SUMS: Final = 2 * 8  # loss and squared norm, fp64
_STATISTICS: Final = 3 * FP32  # of the vocabulary-parallel loss, for each token


class Axis(StrEnum):
    """Axis of the ranks that communicate."""

    DATA = "data"  # and context, where parameters are concerned
    TENSOR = "tensor"
    CONTEXT = "context"
    PIPELINE = "pipeline"
    WORLD = "world"


class CommunicationOp(StrEnum):
    """Kind of a collective or message."""

    ALL_GATHER = "all-gather"
    REDUCE_SCATTER = "reduce-scatter"
    ALL_REDUCE = "all-reduce"
    SEND = "send"
    RECEIVE = "receive"


@dataclass(frozen=True)
class CallTotals:
    """Number of calls, and their bytes all together."""

    calls: int
    bytes: int

    def __add__(self, other: CallTotals) -> CallTotals:
        return CallTotals(self.calls + other.calls, self.bytes + other.bytes)


Traffic = dict[tuple[Axis, CommunicationOp], CallTotals]
_Part = tuple[Axis, CommunicationOp, int, int]
"""(axis, call, how many, bytes of each)."""


def estimate_traffic(shape: ModelShape, topology: Topology, pipeline: int, step: StepConfig) -> Traffic:
    """Estimate a rank with this `pipeline` coordinate that holds the first shard; absent calls are left out.

    The optimizer is elementwise (Adafactor sums more) and the loss cross-entropy, without
    validation, checkpoints and compilation. With adapters, whose gradients alone are
    summed, the result is empty.
    """
    if shape.adapter is not None:
        return {}
    stages, mine = list_stage_weights(shape, topology), topology.stages_of(pipeline)
    rank = _Rank(shape, topology, step)
    parts = [*rank.parameters([stages[number] for number in mine]), *rank.tied(stages, pipeline)]
    for number in mine:
        parts += rank.sequences(stages[number], number)
        parts += rank.messages(number, mine)
    parts += [
        (Axis.WORLD, CommunicationOp.ALL_REDUCE, 1, _COUNTS),
        (Axis.WORLD, CommunicationOp.ALL_REDUCE, 1, _SUMS),
    ]
    return _summed(parts)


def sent_bytes(traffic: Traffic, axis: Axis) -> int:
    """Return the bytes that go into all calls of `axis`."""
    return sum(
        load.bytes
        for (along, call), load in traffic.items()
        if along is axis and call is not CommunicationOp.RECEIVE
    )


def _summed(parts: Iterable[_Part]) -> Traffic:
    loads: defaultdict[tuple[Axis, CommunicationOp], CallTotals] = defaultdict(lambda: CallTotals(0, 0))
    for axis, call, calls, size in parts:
        if calls:
            loads[axis, call] += CallTotals(calls, calls * size)
    return dict(loads)


@dataclass(frozen=True)
class _Forward:
    """Calls of tensor ranks around some layers in a forward pass, and in a recomputed one."""

    gathers: int = 0  # of pieces of a sequence
    scatters: int = 0  # of sums
    gathers_again: int = 0
    scatters_again: int = 0


@dataclass(frozen=True)
class _Rank:
    """Calls of a rank in a step, kind by kind."""

    shape: ModelShape
    topology: Topology
    step: StepConfig

    def parameters(self, stages: list[StageWeights]) -> Iterator[_Part]:
        """Yield gathers of parameters and sums of gradients, also of weights that tensor ranks have whole."""
        topology, count = self.topology, self.step.batch.count
        shards, tensor = topology.shards, topology.tensor
        kept = topology.sharding is Sharding.ZERO_1 or topology.pipeline > 1
        gathers, reduces = 1 if kept else count, 1 if kept or shards == 1 else count
        for stage in stages:
            for group in stage.groups:
                shard = sum(weight.shard(tensor, shards) for weight in group)
                # A block is gathered for its forward and for its backward pass, the rest once for both.
                again = 1 if kept or group is stage.outside else 2
                if shards > 1:
                    yield Axis.DATA, CommunicationOp.ALL_GATHER, gathers * again, self.step.compute * shard
                    yield Axis.DATA, CommunicationOp.REDUCE_SCATTER, reduces, FP32 * shard * shards
                if topology.copies > 1:
                    yield Axis.DATA, CommunicationOp.ALL_REDUCE, reduces, FP32 * shard
        if tensor > 1:
            uncut = {w.name: w for stage in stages for group in stage.groups for w in group if w.cut is None}
            numbers = sum(weight.shard(tensor, shards) for weight in uncut.values())
            yield Axis.TENSOR, CommunicationOp.ALL_REDUCE, 1 if numbers else 0, FP32 * numbers

    def tied(self, stages: tuple[StageWeights, ...], pipeline: int) -> Iterator[_Part]:
        """Yield sums of gradients of a parameter in stages of several ranks: one for each set of holders."""
        topology = self.topology
        holders: defaultdict[Weight, set[int]] = defaultdict(set)
        for holder in range(topology.pipeline):
            for number in topology.stages_of(holder):
                for weight in stages[number].outside:
                    holders[weight].add(holder)
        shared: Counter[frozenset[int]] = Counter()
        for weight, ranks in holders.items():
            if len(ranks) > 1 and pipeline in ranks:
                shared[frozenset(ranks)] += weight.shard(topology.tensor, topology.shards)
        for numbers in shared.values():
            yield Axis.PIPELINE, CommunicationOp.ALL_REDUCE, 1, FP32 * numbers

    def sequences(self, stage: StageWeights, number: int) -> Iterator[_Part]:
        """Yield gathers and scatters of one stage's activations, by tensor and context ranks."""
        if self.topology.context > 1:
            yield from self._keys_and_values(len(stage.blocks))
        if self.topology.tensor > 1:
            for weights in stage.blocks:
                crosses = any(".cross_attention." in weight.name for weight in weights)
                yield from self._around_block(crosses)
            if number == 0:
                for length in self._lengths():
                    yield from self._pieces(length, _Forward(scatters=1))
            if number == self.topology.stages - 1:
                yield from self._head()

    def messages(self, number: int, mine: tuple[int, ...]) -> Iterator[_Part]:
        """Yield messages to and from the neighbouring stages; the turn of a V stays on its rank."""
        batch = self.step.batch
        numbers = batch.sequences * self.shape.hidden // self.topology.tensor
        for length in self._lengths():
            for neighbour in (number - 1, number + 1):
                if 0 <= neighbour < self.topology.stages and neighbour not in mine:
                    for call in (CommunicationOp.SEND, CommunicationOp.RECEIVE):
                        yield Axis.PIPELINE, call, batch.count, self.step.compute * numbers * length

    def _lengths(self) -> list[int]:
        """Return the positions of each chain on this rank's context piece; a decoder's fill equal pieces."""
        tensor, chains = self.topology.tensor, [self.shape.context // self.topology.context]
        if self.shape.architecture is Architecture.ENCODER_DECODER:
            chains.append(-(-self.step.decoder_length // tensor) * tensor)
        return chains

    def _around_block(self, crosses: bool) -> Iterator[_Part]:
        """Yield gathers of a sequence before attention and feed-forward layer, and scatters behind them."""
        source, *rest = self._lengths()
        layers = 3 if crosses else 2
        # What is computed again stops at the last sum, which nothing keeps; a norm behind it keeps it.
        again = 0 if self.step.activation_checkpointing is ActivationCheckpointing.NONE else 1
        ends = self.shape.architecture is Architecture.ENCODER or self.shape.hidden_dropout > 0
        scatters_again = again * (layers if ends else layers - 1)
        own = rest[0] if crosses else source
        yield from self._pieces(own, _Forward(layers, layers, again * layers, scatters_again))
        if crosses:
            yield from self._pieces(source, _Forward(gathers=1, gathers_again=again))

    def _pieces(self, length: int, forward: _Forward, width: int | None = None) -> Iterator[_Part]:
        """Yield each gather and scatter of the forward pass, with its opposite in the backward pass."""
        count, both = self.step.batch.count, forward.gathers + forward.scatters
        whole = self.step.compute * self.step.batch.sequences * length * (width or self.shape.hidden)
        piece = whole // self.topology.tensor
        yield Axis.TENSOR, CommunicationOp.ALL_GATHER, count * (both + forward.gathers_again), piece
        yield Axis.TENSOR, CommunicationOp.REDUCE_SCATTER, count * (both + forward.scatters_again), whole

    def _head(self) -> Iterator[_Part]:
        """Yield gathers of the last hidden states for the loss, and of a token's three normaliser numbers."""
        shape, batch, length = self.shape, self.step.batch, self._lengths()[-1]
        # An encoder's has a column more, which multiplies the bias of its projection.
        width = shape.hidden + (shape.architecture is Architecture.ENCODER)
        yield from self._pieces(length, _Forward(gathers=1), width)
        if shape.labels:  # each rank computes the few scores itself
            return
        chunk = loss_chunk(shape.vocabulary // self.topology.tensor, self.step.device)
        full, left = divmod(batch.sequences * length, chunk)
        yield Axis.TENSOR, CommunicationOp.ALL_GATHER, batch.count * full, _STATISTICS * chunk
        yield Axis.TENSOR, CommunicationOp.ALL_GATHER, batch.count if left else 0, _STATISTICS * left

    def _keys_and_values(self, blocks: int) -> Iterator[_Part]:
        """Yield gathers of each block's keys and values, and the reduce-scatters of their gradients."""
        shape, topology, batch = self.shape, self.topology, self.step.batch
        heads = max(1, shape.key_value_heads // topology.tensor)
        piece = 2 * batch.sequences * (shape.context // topology.context) * heads * shape.head_size
        forward = 1 if self.step.activation_checkpointing is ActivationCheckpointing.NONE else 2
        calls = batch.count * blocks
        yield Axis.CONTEXT, CommunicationOp.ALL_GATHER, forward * calls, self.step.compute * piece
        yield (
            Axis.CONTEXT,
            CommunicationOp.REDUCE_SCATTER,
            calls,
            self.step.compute * piece * topology.context,
        )
