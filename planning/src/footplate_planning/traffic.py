"""What a rank sends in one step: collectives, messages and their bytes, before any rank exists. Pure.

Whoever lays a run out over machines wants to know which axis speaks how much.
Each formula here stands in docs/parallelism.md, and `bench/trainer/collectives.py`
counts real steps and finds the same numbers. Bytes are those that go into each
call on one rank: the shard for an all-gather, the whole for a reduce-scatter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from footplate_contracts.v1alpha1.model import Architecture
from footplate_contracts.v1alpha1.training import Precision, Recomputation, Sharding
from footplate_planning.inventory import Stage, Weight, inventory
from footplate_planning.memory import FP32, Batch, loss_chunk
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology

FLAGS: Final = 3  # that ride along with the count of valid tokens, see Flags of the trainer's loop
_COUNTS: Final = (1 + FLAGS) * 8  # int64
_SUMS: Final = 2 * 8  # loss and squared norm, fp64
_STATISTICS: Final = 3 * FP32  # of the vocabulary-parallel loss, for each token


class Axis(StrEnum):
    """Between which ranks."""

    DATA = "data"  # and context, where parameters are concerned
    TENSOR = "tensor"
    CONTEXT = "context"
    PIPELINE = "pipeline"
    WORLD = "world"


class Call(StrEnum):
    """What is called."""

    ALL_GATHER = "all-gather"
    REDUCE_SCATTER = "reduce-scatter"
    ALL_REDUCE = "all-reduce"
    SEND = "send"
    RECEIVE = "receive"


@dataclass(frozen=True)
class Load:
    """So many calls, and the bytes of all of them together."""

    calls: int
    bytes: int

    def __add__(self, other: Load) -> Load:
        return Load(self.calls + other.calls, self.bytes + other.bytes)


Traffic = dict[tuple[Axis, Call], Load]
_Part = tuple[Axis, Call, int, int]
"""(axis, call, how many, bytes of each)."""


@dataclass(frozen=True)
class Step:
    """What of a run decides its traffic; `decoder_length` is 0 without a decoder behind an encoder."""

    batch: Batch
    precision: Precision = Precision.FP32
    recomputation: Recomputation = Recomputation.NONE
    decoder_length: int = 0
    device: str = "cpu"

    @property
    def compute(self) -> int:
        """Bytes of a number that is computed with."""
        return 2 if self.precision is Precision.BF16 else FP32


def traffic(shape: ModelShape, topology: Topology, pipeline: int, step: Step) -> Traffic:
    """Of a rank with this `pipeline` coordinate that holds the first shard; what is not there is left out.

    An elementwise optimizer (Adafactor sums more) and cross-entropy, without
    validation, checkpoints and compilation. Nothing is foreseen for adapters, whose
    gradients alone are summed.
    """
    if shape.adapter is not None:
        return {}
    stages = inventory(shape, topology)
    mine = topology.stages_of(pipeline)
    parts = [*_parameters([stages[number] for number in mine], topology, step)]
    parts += _twins(stages, topology, pipeline)
    for number in mine:
        parts += _sequences(shape, topology, step, stages[number], number)
        parts += _messages(shape, topology, step, number, mine)
    parts += [(Axis.WORLD, Call.ALL_REDUCE, 1, _COUNTS), (Axis.WORLD, Call.ALL_REDUCE, 1, _SUMS)]
    return _summed(parts)


def sent(traffic: Traffic, axis: Axis) -> int:
    """Bytes that go into all calls of `axis`."""
    return sum(
        load.bytes for (along, call), load in traffic.items() if along is axis and call is not Call.RECEIVE
    )


def _summed(parts: Iterable[_Part]) -> Traffic:
    loads: defaultdict[tuple[Axis, Call], Load] = defaultdict(lambda: Load(0, 0))
    for axis, call, calls, size in parts:
        if calls:
            loads[axis, call] += Load(calls, calls * size)
    return dict(loads)


# -- parameters and their gradients ------------------------------------------------


def _parameters(stages: list[Stage], topology: Topology, step: Step) -> Iterator[_Part]:
    """Parameters made whole, gradients summed and cut; and the sum of those that tensor ranks have whole."""
    shards, tensor = topology.shards, topology.tensor
    kept = topology.sharding is Sharding.OPTIMIZER or topology.pipeline > 1
    gathers = 1 if kept else step.batch.count
    reduces = 1 if kept or shards == 1 else step.batch.count
    for stage in stages:
        for group in stage.groups:
            shard = sum(weight.shard(tensor, shards) for weight in group)
            # A block is gathered for its forward and for its backward pass, the rest once for both.
            again = 1 if kept or group is stage.outside else 2
            if shards > 1:
                yield Axis.DATA, Call.ALL_GATHER, gathers * again, step.compute * shard
                yield Axis.DATA, Call.REDUCE_SCATTER, reduces, FP32 * shard * shards
            if topology.copies > 1:
                yield Axis.DATA, Call.ALL_REDUCE, reduces, FP32 * shard
    if tensor > 1:
        uncut = {w.name: w for stage in stages for group in stage.groups for w in group if w.cut is None}
        numbers = sum(weight.shard(tensor, shards) for weight in uncut.values())
        yield Axis.TENSOR, Call.ALL_REDUCE, 1 if numbers else 0, FP32 * numbers


def _twins(stages: tuple[Stage, ...], topology: Topology, pipeline: int) -> Iterator[_Part]:
    """Sums of the gradients of one parameter in stages of several ranks: one for each set of holders."""
    holders: defaultdict[Weight, set[int]] = defaultdict(set)
    for place in range(topology.pipeline):
        for number in topology.stages_of(place):
            for weight in stages[number].outside:
                holders[weight].add(place)
    shared: Counter[frozenset[int]] = Counter()
    for weight, places in holders.items():
        if len(places) > 1 and pipeline in places:
            shared[frozenset(places)] += weight.shard(topology.tensor, topology.shards)
    for numbers in shared.values():
        yield Axis.PIPELINE, Call.ALL_REDUCE, 1, FP32 * numbers


# -- activations -------------------------------------------------------------------


def _sequences(
    shape: ModelShape, topology: Topology, step: Step, stage: Stage, number: int
) -> Iterator[_Part]:
    """What tensor and context ranks gather and scatter of one stage's activations."""
    first, last = number == 0, number == topology.stages - 1
    if topology.context > 1:
        yield from _keys_and_values(shape, topology, step, len(stage.blocks))
    if topology.tensor > 1:
        for weights in stage.blocks:
            yield from _around_block(shape, topology, step, _crosses(weights))
        if first:
            for length in _lengths(shape, topology, step):
                yield from _pair(shape, topology, step, length, gathers=0, scatters=1)
        if last:
            yield from _head(shape, topology, step)


def _crosses(weights: Iterable[Weight]) -> bool:
    return any(".cross_attention." in weight.name for weight in weights)


def _lengths(shape: ModelShape, topology: Topology, step: Step) -> list[int]:
    """Positions of each chain on this rank's context piece; a decoder's are filled up to equal pieces."""
    chains = [shape.context // topology.context]
    if shape.architecture is Architecture.ENCODER_DECODER:
        chains.append(-(-step.decoder_length // topology.tensor) * topology.tensor)
    return chains


def _around_block(shape: ModelShape, topology: Topology, step: Step, crosses: bool) -> Iterator[_Part]:
    """Before attention and feed-forward layer a sequence is gathered, behind them sums are scattered."""
    source, *rest = _lengths(shape, topology, step)
    own = rest[0] if crosses else source
    parts = 3 if crosses else 2
    # What is computed again stops at the last sum, which nothing keeps; a norm behind it keeps it.
    again = 0 if step.recomputation is Recomputation.NONE else 1
    ends = shape.architecture is Architecture.ENCODER or shape.hidden_dropout > 0
    yield from _pair(
        shape, topology, step, own, parts, parts, again * parts, again * (parts if ends else parts - 1)
    )
    if crosses:
        yield from _pair(shape, topology, step, source, 1, 0, again, 0)


def _pair(
    shape: ModelShape,
    topology: Topology,
    step: Step,
    length: int,
    gathers: int,
    scatters: int,
    gathers_again: int = 0,
    scatters_again: int = 0,
    width: int | None = None,
) -> Iterator[_Part]:
    """Gathers of pieces and scatters of sums in the forward pass; each has the other in the backward pass."""
    whole = step.compute * step.batch.sequences * length * (width or shape.hidden)
    count, both = step.batch.count, gathers + scatters
    yield Axis.TENSOR, Call.ALL_GATHER, count * (both + gathers_again), whole // topology.tensor
    yield Axis.TENSOR, Call.REDUCE_SCATTER, count * (both + scatters_again), whole


def _head(shape: ModelShape, topology: Topology, step: Step) -> Iterator[_Part]:
    """The last hidden states, whole for the loss, and three numbers a token for its normaliser."""
    length = _lengths(shape, topology, step)[-1]
    # An encoder's has a column more, which multiplies the bias of its projection.
    width = shape.hidden + (shape.architecture is Architecture.ENCODER)
    yield from _pair(shape, topology, step, length, gathers=1, scatters=0, width=width)
    tokens, rows = step.batch.sequences * length, shape.vocabulary // topology.tensor
    chunk = loss_chunk(rows, step.device)
    full, left = divmod(tokens, chunk)
    yield Axis.TENSOR, Call.ALL_GATHER, step.batch.count * full, _STATISTICS * chunk
    yield Axis.TENSOR, Call.ALL_GATHER, step.batch.count if left else 0, _STATISTICS * left


def _keys_and_values(shape: ModelShape, topology: Topology, step: Step, blocks: int) -> Iterator[_Part]:
    """Keys and values of each block, gathered forward, their gradients summed and scattered backward."""
    heads = max(1, shape.key_value_heads // topology.tensor)
    piece = 2 * step.batch.sequences * (shape.context // topology.context) * heads * shape.head_size
    forward = 1 if step.recomputation is Recomputation.NONE else 2
    calls = step.batch.count * blocks
    yield Axis.CONTEXT, Call.ALL_GATHER, forward * calls, step.compute * piece
    yield Axis.CONTEXT, Call.REDUCE_SCATTER, calls, step.compute * piece * topology.context


def _messages(
    shape: ModelShape, topology: Topology, step: Step, number: int, mine: tuple[int, ...]
) -> Iterator[_Part]:
    """To and from the stages before and behind; the turn of a V stays on its rank."""
    numbers = step.batch.sequences * shape.hidden // topology.tensor
    for length in _lengths(shape, topology, step):
        for neighbour in (number - 1, number + 1):
            if 0 <= neighbour < topology.stages and neighbour not in mine:
                for call in (Call.SEND, Call.RECEIVE):
                    yield Axis.PIPELINE, call, step.batch.count, step.compute * numbers * length
