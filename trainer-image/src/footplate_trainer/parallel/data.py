"""Data parallelism with FSDP2, one path for every degree of sharding.

`full` shards parameters, gradients and optimizer state over all ranks; `none`
keeps whole copies, which is the same wrapper on a mesh whose shard axis has one
rank. Losses are divided by the global number of valid tokens before backward,
so gradients are summed over ranks and never averaged.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from footplate_contracts.v1alpha1.training import Precision
from footplate_trainer.parallel.topology import Topology


def data_mesh(topology: Topology, device_type: str) -> DeviceMesh:
    """The ranks as (shard) or, with whole copies, (replicate, shard)."""
    if topology.replicas == 1:
        return init_device_mesh(device_type, (topology.shards,), mesh_dim_names=("shard",))
    degrees = (topology.replicas, topology.shards)
    return init_device_mesh(device_type, degrees, mesh_dim_names=("replicate", "shard"))


def shard_data(model: nn.Module, mesh: DeviceMesh, precision: Precision) -> FSDPModule:
    """Wrap each block and the rest of `model`, in place; parameters become DTensors on `mesh`."""
    # The rotary tables travel into each block as fp32 and must stay it: no cast of inputs.
    if precision is Precision.BF16:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    else:
        policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    blocks = model.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleDict)
    for part in chain(blocks.values(), (model,)):
        wrapped = fully_shard(part, mesh=mesh, mp_policy=policy)
        wrapped.set_gradient_divide_factor(1.0)
        # gloo has no PREMUL_SUM, which a divide factor would otherwise use.
        wrapped.set_force_sum_reduction_for_comms(True)
    assert isinstance(model, FSDPModule)
    return model


def local_rows(parameter: Tensor) -> tuple[Tensor, int]:
    """The rows of `parameter` that this rank holds, sharing memory, and the index of the first."""
    if not isinstance(parameter, DTensor):
        return parameter.detach(), 0
    local = parameter.to_local().detach()
    mesh = parameter.device_mesh
    # torch.chunk's rule: all shards but the last have ceil(rows / shards) rows.
    shards = mesh.size(mesh.ndim - 1)
    each = -(-parameter.shape[0] // shards)
    return local, min(each * mesh.get_local_rank(mesh.ndim - 1), parameter.shape[0])


def laid_out_like(parameter: Tensor, rows: Tensor, mesh: DeviceMesh | None = None) -> Tensor:
    """`rows` of this rank as a tensor of the whole parameter's shape, laid out over the ranks as it is.

    `mesh` replaces the parameter's own by one of the same shape on another device type.
    """
    if not isinstance(parameter, DTensor):
        return rows
    return DTensor.from_local(
        rows,
        mesh or parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
