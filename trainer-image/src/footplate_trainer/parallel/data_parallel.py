"""Data parallelism with FSDP2, one path for every degree of sharding.

`full` shards parameters, gradients and optimizer state over all ranks; `hybrid`
does so within groups that hold a copy each; `none` keeps whole copies, which is
the same wrapper on a mesh whose shard axis has one rank. `optimizer` shards as
`full` does, but keeps parameters and gradients whole from the first forward to
the last backward of a step (ZeRO-1). Losses are divided by the global number of
valid tokens before backward, so gradients are summed over ranks and never
averaged. If one rank holds everything and computes in the precision that it
stores, there is nothing to gather or to reduce, and nothing is wrapped: FSDP
would only copy parameters and gradients in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from footplate_contracts.v1alpha1.parallelism import Sharding
from footplate_contracts.v1alpha1.training import Precision
from footplate_trainer.parallel.local_shard import as_dtensor
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.stage_module import Criterion, MicroBatchInputs, StageModule


def apply_fsdp(stage: StageModule, grid: Grid, precision: Precision, offload: OffloadPolicy) -> None:
    """Wrap each block and the rest of `stage`, in place, unless a single rank holds all where it computes."""
    moves = precision is not Precision.FP32 or isinstance(offload, CPUOffloadPolicy)
    if not grid.topology.has_data_ranks and not moves:
        return
    # The rotary tables travel into each block as fp32 and must stay it: no cast of inputs.
    if precision is Precision.BF16:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    else:
        policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    # A pipeline would gather anew for each micro-batch, and a zero-bubble schedule looks for the
    # weights' gradients between a forward and its backward pass.
    keeps = grid.topology.sharding is Sharding.ZERO_1 or grid.topology.pipeline > 1
    for module in chain(stage.network.blocks.values(), (stage,)):
        wrapped = fully_shard(
            module,
            mesh=grid.data_mesh,
            mp_policy=policy,
            reshard_after_forward=False if keeps else None,
            offload_policy=offload,
        )
        wrapped.set_gradient_divide_factor(1.0)
        # gloo has no PREMUL_SUM, which a divide factor would otherwise use.
        wrapped.set_force_sum_reduction_for_comms(True)


class GradientAccumulation:
    """Gradient accumulation over consecutive micro-batches, without a pipeline."""

    def __init__(self, stage: StageModule, grid: Grid, device: torch.device) -> None:
        self._stage = stage
        self._device = device
        sharding = grid.topology.sharding
        # Who holds whole gradients anyway adds up the micro-batches first and reduces once.
        self._reduce_once = grid.topology.shards == 1 or sharding is Sharding.ZERO_1
        self._keep_whole = sharding is Sharding.ZERO_1

    def accumulate(
        self, micro_batches: Sequence[MicroBatchInputs], criterion: Criterion, divisor: Callable[[], Tensor]
    ) -> Tensor:
        """Compute gradients of summed losses / `divisor()`; return this rank's part of the loss, fp64 scalar.

        The call of `divisor` may wait.
        """
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for index, micro_batch in enumerate(micro_batches):
            self._reduce_behind(is_last=index == len(micro_batches) - 1)
            summed = self._stage(inputs=micro_batch.inputs, targets=micro_batch.targets, criterion=criterion)
            part = summed / divisor()  # not asked for sooner: the first forward hides the way there
            part.backward()
            total += part.detach()
            del summed, part  # or the next forward pass would run beside the gradients that the loss kept
        return total

    def _reduce_behind(self, is_last: bool) -> None:
        """Configure gradient reduction after the coming backward pass, the step's last one or not."""
        if not isinstance(self._stage, FSDPModule):
            return
        if self._reduce_once:
            self._stage.set_requires_gradient_sync(is_last)
        if self._keep_whole:
            self._stage.set_reshard_after_backward(is_last)

    def evaluate(self, micro_batches: Sequence[MicroBatchInputs], criterion: Criterion) -> Tensor:
        """Return the sum of losses, without gradients: fp64 scalar."""
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for micro_batch in micro_batches:
            total += self._stage(inputs=micro_batch.inputs, targets=micro_batch.targets, criterion=criterion)
        reshard(self._stage)
        return total


def reshard(stage: StageModule) -> None:
    """Drop parameters that a forward pass gathered for a backward pass that does not follow."""
    if isinstance(stage, FSDPModule):
        stage.reshard()


def dtensor_like(parameter: Tensor, rows: Tensor, host: DeviceMesh | None = None) -> Tensor:
    """Return `rows` of this rank as a tensor of the whole parameter's shape, in the parameter's layout.

    `host` is a mesh of all ranks on another device type with the parameter's axes.
    """
    if not isinstance(parameter, DTensor):
        return rows
    mesh = parameter.device_mesh
    where = host[mesh.mesh_dim_names] if host is not None and mesh.mesh_dim_names else mesh
    return as_dtensor(rows, where, parameter.placements, parameter.shape)
