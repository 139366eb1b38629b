"""Peak memory of a rank in bytes, before any rank exists. Pure.

A step has three moments at which memory may peak: in the loss, when all
activations of a micro-batch are there; at the beginning of the backward pass,
when the first gradients come on top; and at its end, when activations are gone
and all gradients are there. Each is a sum of a few products, and the peak is
the largest. The activations that the model stores for its backward pass were counted
on the code as it is; `bench/trainer/plan_memory.py` compares estimates with measurements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Final

from footplate_contracts.v1alpha1.model import AttentionBackend
from footplate_contracts.v1alpha1.parallelism import PipelineSchedule, Sharding
from footplate_contracts.v1alpha1.training import ActivationCheckpointing, Optimizer, OptimizerName, Precision
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology, stage_layers

FP32: Final = 4
# Bytes of fp32 logits that the loss holds at once: what makes a matrix product efficient, and little more.
_CPU_LOGITS: Final = 2**26
_GPU_LOGITS: Final = 2**28


class MemoryKind(StrEnum):
    """Kind of memory."""

    PARAMETERS = "parameters"  # fp32 master shards
    FROZEN = "frozen"  # the same of models that are computed and not trained
    MOMENTS = "optimizer"
    GRADIENTS = "gradients"
    GATHERED = "gathered"  # parameters made whole for computing with them
    ACTIVATIONS = "activations"
    WORKSPACE = "workspace"  # of the loss, of one block's backward pass, of reductions


_RESIDENT: Final = (MemoryKind.PARAMETERS, MemoryKind.FROZEN, MemoryKind.MOMENTS)


@dataclass(frozen=True)
class MicroBatches:
    """Batch of a rank: micro-batches of `sequences`, `count` in a step."""

    sequences: int
    count: int


@dataclass(frozen=True)
class StepConfig:
    """Settings behind a rank's memory and traffic; `decoder_length` is 0 if no decoder follows an encoder."""

    batch: MicroBatches
    precision: Precision = Precision.FP32
    activation_checkpointing: ActivationCheckpointing = ActivationCheckpointing.NONE
    decoder_length: int = 0
    device: str = "cpu"

    @property
    def compute(self) -> int:
        """Bytes of a number in computations."""
        return 2 if self.precision is Precision.BF16 else FP32


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by kind at the moment of the peak."""

    bytes: dict[MemoryKind, int]

    @property
    def peak(self) -> int:
        """Bytes of all kinds together."""
        return sum(self.bytes.values())

    @property
    def resident(self) -> int:
        """Bytes that a rank holds between two steps, too."""
        return sum(self.bytes.get(kind, 0) for kind in _RESIDENT)

    def offloaded(self) -> MemoryEstimate:
        """Return the estimate with all shards and the optimizer's moments in the host's memory.

        Gradients stay counted, as each block's are on the device until they have been sent away.
        """
        away: dict[MemoryKind, int] = dict.fromkeys(_RESIDENT, 0)
        return MemoryEstimate({kind: away.get(kind, held) for kind, held in self.bytes.items()})

    def with_frozen(self, frozen: int) -> MemoryEstimate:
        """Return the estimate with `frozen` bytes of other models' shards; unchanged for 0.

        A frozen model's gathered parameters are freed before the trained model is computed, which
        needs more. Where none is trained, see `scoring_bytes`.
        """
        if not frozen:
            return self
        kinds = {kind: self.bytes.get(kind, 0) for kind in MemoryKind}
        return MemoryEstimate({**kinds, MemoryKind.FROZEN: frozen})

    def at_once(self, more: Mapping[MemoryKind, int]) -> MemoryEstimate:
        """Return the estimate with `more` bytes by kind, of another model held at the same moment."""
        kinds = [kind for kind in MemoryKind if kind in self.bytes or kind in more]
        return MemoryEstimate({kind: self.bytes.get(kind, 0) + more.get(kind, 0) for kind in kinds})


@dataclass(frozen=True)
class LocalCounts:
    """Numbers (not bytes) in this rank's part of the network, after tensor parallelism."""

    blocks: tuple[int, ...]
    beginning: int  # embeddings; 0 where another stage has them
    end: int  # head and last norm
    projection: int  # of these the output projection's, which may be the embedding
    adapters: int
    moved: int  # of those outside: a head of scores, which is trained beside adapters too
    frozen: bool  # all but these two

    @property
    def outside(self) -> int:
        """Numbers in embedding and head, which stay gathered from first forward to last backward pass."""
        return self.beginning + self.end

    @property
    def all(self) -> int:
        """Parameters of this rank's pipeline stages."""
        return sum(self.blocks) + self.outside + self.adapters

    @property
    def trained(self) -> int:
        """Parameters that have gradients."""
        return self.adapters + self.moved if self.frozen else self.all


def local_counts(shape: ModelShape, topology: Topology, pipeline: int) -> LocalCounts:
    """Count the numbers on ranks with the `pipeline` coordinate before data parallelism shards them."""
    layers = stage_layers(shape, topology)
    stages = topology.stages_of(pipeline)
    tensor = topology.tensor
    is_first, is_last = 0 in stages, topology.stages - 1 in stages
    projection = shape.projection // (1 if shape.labels else tensor) if is_last else 0
    end = shape.head_parameters if is_last else 0
    cut_end = end - (shape.projection if is_last and not shape.tied_embeddings else 0)
    if is_last and not shape.tied_embeddings:
        end = cut_end + projection
    elif is_last and not is_first:
        end += projection  # a replica of the embedding
    return LocalCounts(
        blocks=tuple(_block(shape, number, tensor) for stage in stages for number in layers[stage]),
        beginning=-(-shape.embedding_parameters // tensor) if is_first else 0,
        end=end,
        projection=projection,
        adapters=_adapters(shape, [number for stage in stages for number in layers[stage]], is_last, tensor),
        moved=shape.labels * shape.hidden if is_last else 0,
        frozen=shape.adapter is not None,
    )


def _adapters(shape: ModelShape, blocks: Iterable[int], is_last: bool, tensor: int) -> int:
    """Count the numbers of adapters: only a matrix that meets the cut side of its layer is cut."""
    if shape.adapter is None:
        return 0
    here = tuple(f"blocks.{number}." for number in blocks)
    total = 0
    for name, (inputs, outputs) in shape.adapted_layers().items():
        if name.startswith(here) or (is_last and not name.startswith("blocks.")):
            by_rows = name.endswith((".output", ".down"))
            sizes = (inputs // tensor, outputs) if by_rows else (inputs, outputs // tensor)
            total += shape.adapter.parameters(*sizes)
    return total


def _block(shape: ModelShape, number: int, tensor: int) -> int:
    """Count the numbers of a block: norms are whole on every tensor rank, matrices are cut."""
    norms = 2 * shape.norm_parameters
    return norms + (shape.block_parameters(number) - norms) // tensor


def moments_per_parameter(optimizer: Optimizer) -> float:
    """Return the fp32 numbers that the optimizer stores for each weight of a matrix."""
    match optimizer.name:
        case OptimizerName.ADAM | OptimizerName.ADAMW:
            return 2.0
        case OptimizerName.SGD:
            return 1.0 if optimizer.momentum else 0.0
        case OptimizerName.ADAFACTOR:
            return 0.0  # a row and a column: nothing beside the matrix


@dataclass(frozen=True)
class _Activations:
    """Bytes for each token of this rank's sequences, of which `tensor` ranks share the matrices."""

    shape: ModelShape
    tensor: int
    step: StepConfig

    def of_block(self) -> int:
        """Return the bytes that one block stores for its backward pass without recomputation.

        Attention stores query, result and merged heads, key and value; a gated
        feed-forward layer four of its width, a plain one two. Tensor ranks cut these,
        and hold a piece of the sequence of the values between the matrices; the values
        that they gather for a matrix are whole.
        """
        shape, compute = self.shape, self.step.compute
        inner = (4 if shape.is_gated else 2) * shape.feed_forward
        cut = compute * (3 * self._query + 2 * self._key_value + inner) + 2 * self.of_norm()
        if shape.attention_backend is AttentionBackend.EAGER:  # the softmax of a row of scores for each head
            cut += shape.heads * shape.context * (FP32 if compute == FP32 else FP32 + compute)
        return cut // self.tensor + (compute * 4 * shape.hidden if self.tensor > 1 else 0)

    def kept(self) -> int:
        """Return the bytes that one block stores until its backward pass begins, beside its input.

        Full recomputation stores nothing; selective stores the products of matrices and
        attention's result, and computes the rest again.
        """
        match self.step.activation_checkpointing:
            case ActivationCheckpointing.NONE:
                return self.of_block()
            case ActivationCheckpointing.FULL:
                return 0
            case ActivationCheckpointing.SELECTIVE:
                inner = (2 if self.shape.is_gated else 1) * self.shape.feed_forward
                numbers = 2 * self._query + 2 * self._key_value + inner + 2 * self.shape.hidden
                return self.step.compute * numbers // self.tensor

    def again(self) -> int:
        """Return the bytes that one block recomputes for its backward pass."""
        return self.of_block() - self.kept()

    def of_norm(self) -> int:
        """Return the bytes of normalised input and result; in bf16 on a CPU the former is two fp32 copies."""
        compute = self.step.compute
        on_cpu_in_bf16 = self.step.device == "cpu" and compute != FP32
        return self.shape.hidden * (compute + (2 * FP32 if on_cpu_in_bf16 else compute))

    def of_rank(self, here: LocalCounts, flight: int) -> int:
        """Return the bytes of `flight` micro-batches stored at once; the loss's input counts once."""
        stream = self.step.compute * self.shape.hidden
        inputs = stream * (
            1 if self.step.activation_checkpointing is ActivationCheckpointing.NONE else len(here.blocks)
        )
        end = self.of_norm() + (stream if self.tensor > 1 else 0)
        return flight * (len(here.blocks) * self.kept() + inputs) + (end if here.projection else 0)

    @property
    def _query(self) -> int:
        return self.shape.heads * self.shape.head_size

    @property
    def _key_value(self) -> int:
        return self.shape.key_value_heads * self.shape.head_size


def frozen_bytes(shape: ModelShape, topology: Topology, pipeline: int) -> int:
    """Return the bytes of a rank's shards of a frozen network of `shape` in the trained network's layout."""
    return FP32 * -(-local_counts(shape, topology, pipeline).all // topology.shards)


def trained_bytes(
    shape: ModelShape, topology: Topology, pipeline: int, optimizer: Optimizer
) -> dict[MemoryKind, int]:
    """Return the bytes by kind of a network of `shape` that is trained beside another one, before any update.

    Its activations take turns with the other's; its gradients wait until those of both are known.
    """
    here = local_counts(shape, topology, pipeline)
    trained = -(-here.trained // topology.shards)
    return {
        MemoryKind.PARAMETERS: FP32 * -(-here.all // topology.shards),
        MemoryKind.MOMENTS: int(FP32 * moments_per_parameter(optimizer) * trained),
        MemoryKind.GRADIENTS: FP32 * trained,
    }


def resting_estimate(shape: ModelShape, topology: Topology, pipeline: int) -> MemoryEstimate:
    """Estimate the memory of a network of which nothing is trained, between two rollouts."""
    return MemoryEstimate({MemoryKind.PARAMETERS: frozen_bytes(shape, topology, pipeline)})


def scoring_bytes(
    shape: ModelShape, topology: Topology, pipeline: int, step: StepConfig
) -> dict[MemoryKind, int]:
    """Return the bytes beside shards while a network of `shape` computes a micro-batch without gradients.

    These are one block's activations with its input, and the gathered parameters of the network.
    """
    here, compute = local_counts(shape, topology, pipeline), step.compute
    stays = topology.pipeline > 1 or topology.sharding is Sharding.ZERO_1
    wrapped = topology.has_data_ranks or compute != FP32
    block = 0 if stays or topology.shards == 1 else max(here.blocks)
    tokens = step.batch.sequences * shape.context // topology.context
    of_token = _Activations(shape, topology.tensor, step).of_block() + compute * shape.hidden
    return {
        MemoryKind.GATHERED: compute * ((here.all if stays else here.outside) + block) if wrapped else 0,
        MemoryKind.ACTIVATIONS: tokens * of_token,
    }


def micro_batches_in_flight(topology: Topology, pipeline: int, count: int) -> int:
    """Return the most micro-batches of one stage between their forward and backward passes."""
    if topology.pipeline == 1:
        return 1
    if topology.schedule is PipelineSchedule.GPIPE:
        return count
    if topology.schedule is PipelineSchedule.ONE_FORWARD_ONE_BACKWARD:
        return min(count, topology.pipeline - pipeline)
    return min(count, topology.pipeline)


@dataclass(frozen=True)
class _Differentiated:
    """Numbers whose gradients are there at once: of the projection, of a block, of all outside blocks."""

    projection: int
    block: int
    outside: int

    @classmethod
    def of(cls, here: LocalCounts) -> _Differentiated:
        """Build from local counts: frozen weights have none; adapters count as if all were in blocks."""
        if here.frozen:
            return cls(0, here.adapters // len(here.blocks), 0)
        return cls(here.projection, max(here.blocks), here.outside)


def estimate(
    shape: ModelShape, topology: Topology, pipeline: int, step: StepConfig, optimizer: Optimizer
) -> MemoryEstimate:
    """Estimate the peak of a rank with this `pipeline` coordinate."""
    here, batch, compute = local_counts(shape, topology, pipeline), step.batch, step.compute
    sharded, trained = -(-here.all // topology.shards), -(-here.trained // topology.shards)
    whole_gradients = topology.pipeline > 1 or topology.sharding is Sharding.ZERO_1 or topology.shards == 1
    base = {
        MemoryKind.PARAMETERS: FP32 * sharded,
        MemoryKind.MOMENTS: int(FP32 * moments_per_parameter(optimizer) * trained),
    }
    stays = topology.pipeline > 1 or topology.sharding is Sharding.ZERO_1
    # Without data ranks or casts FSDP is left out, and parameters and gradients are used where they lie.
    wrapped = topology.has_data_ranks or compute != FP32
    gathered = compute * (here.all if stays else here.outside) if wrapped else 0
    block = max(here.blocks)
    gathered_block = 0 if stays or topology.shards == 1 else compute * block
    tokens = batch.sequences * shape.context // topology.context
    flight = micro_batches_in_flight(topology, pipeline, batch.count)
    of_token = _Activations(shape, topology.tensor, step)
    activations = tokens * of_token.of_rank(here, flight)
    accumulated = 0
    if batch.count > flight:
        accumulated = (compute if whole_gradients and topology.shards > 1 else FP32) * (
            here.trained if whole_gradients else trained
        )
    moved = _Differentiated.of(here)
    reduced = here.trained if whole_gradients else moved.outside
    cast_head = 0 if compute == FP32 else compute * moved.projection
    hidden_gradient = compute * tokens * shape.hidden if here.projection else 0
    wide = tokens * shape.feed_forward // topology.tensor
    moments = [
        {
            MemoryKind.GRADIENTS: accumulated + FP32 * moved.projection,
            MemoryKind.GATHERED: gathered + gathered_block,
            MemoryKind.ACTIVATIONS: activations + hidden_gradient,
            MemoryKind.WORKSPACE: _loss_workspace(here.projection // shape.hidden, tokens, step),
        },
        {
            MemoryKind.GRADIENTS: accumulated + FP32 * moved.projection + cast_head + compute * moved.block,
            MemoryKind.GATHERED: gathered + 2 * gathered_block,
            MemoryKind.ACTIVATIONS: activations + hidden_gradient + tokens * of_token.again(),
            MemoryKind.WORKSPACE: compute * (3 if shape.is_gated else 2) * wide,
        },
        {
            MemoryKind.GRADIENTS: max(accumulated, FP32 * trained)
            + (compute * moved.outside if wrapped else 0),
            MemoryKind.GATHERED: gathered,
            MemoryKind.ACTIVATIONS: 0,
            MemoryKind.WORKSPACE: FP32 * reduced if topology.shards > 1 else 0,
        },
    ]
    return max((MemoryEstimate({**base, **moment}) for moment in moments), key=attrgetter("peak"))


def _loss_workspace(rows: int, tokens: int, step: StepConfig) -> int:
    """Return the bytes of one chunk's logits, fp32; in bf16 with products and gradients of their size."""
    if rows == 0:
        return 0
    chunk = min(tokens, loss_chunk(rows, step.device))
    return chunk * rows * (FP32 if step.compute == FP32 else FP32 + 2 * step.compute)


def loss_chunk(rows: int, device: str) -> int:
    """Return the tokens whose logits over `rows` of the output head the loss holds at once."""
    budget = _CPU_LOGITS if device == "cpu" else _GPU_LOGITS
    return max(64, budget // (FP32 * max(1, rows)) // 64 * 64)  # matrix products like whole tiles
