"""This rank's part of a parameter.

A parameter may be cut twice, by tensor parallelism and by FSDP, along the same
dimension or along two. Either way a rank's part is one block: a range of each
dimension. The innermost axis of the mesh (tensor) cuts first, FSDP cuts the
rest; torch calls the outer of two cuts along one dimension strided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Size, Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Shard
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta
from torch.distributed.tensor.placement_types import _StridedShard


@dataclass(frozen=True)
class LocalShard:
    """This rank's block of a parameter: its memory and its start in each dimension."""

    local: Tensor
    start: tuple[int, ...]


def as_dtensor(
    part: Tensor, mesh: DeviceMesh, placements: Sequence[Placement], shape: Sequence[int]
) -> DTensor:
    """Wrap `part`, this rank's block, as a contiguous tensor of `shape`, sharing memory on any device.

    DTensor.from_local would copy shards in the host's memory to the mesh's device.
    """
    meta = TensorMeta(Size(shape), torch.empty(shape, device="meta").stride(), part.dtype)
    whole: DTensor = DTensor(part, DTensorSpec(mesh, tuple(placements), meta), requires_grad=False)
    return whole


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of `model` that are not frozen, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def chunk_bounds(size: int, parts: int, index: int) -> tuple[int, int]:
    """Return the bounds of part `index` of `size` rows, cut by torch.chunk's rule.

    All parts but the last have ceil(size / parts) rows.
    """
    each = -(-size // parts)
    return min(index * each, size), min((index + 1) * each, size)


def local_shard(parameter: Tensor) -> LocalShard:
    """Return this rank's block of `parameter`, sharing memory with it."""
    if not isinstance(parameter, DTensor):
        return LocalShard(parameter.detach(), (0,) * parameter.ndim)
    start, size = [0] * parameter.ndim, list(parameter.shape)
    mesh = parameter.device_mesh
    for axis in reversed(range(mesh.ndim)):
        placement = parameter.placements[axis]
        if isinstance(placement, Shard | _StridedShard):
            low, high = chunk_bounds(size[placement.dim], mesh.size(axis), mesh.get_local_rank(axis))
            start[placement.dim] += low
            size[placement.dim] = high - low
    local = parameter.to_local().detach()
    assert list(local.shape) == size, f"torch cut {list(local.shape)}, not {size}"
    return LocalShard(local, tuple(start))


def to_local(tensor: Tensor) -> Tensor:
    """Return this rank's part of `tensor`, as autograd sees it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
