"""Sums over a whole parameter when each rank holds one block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from footplate_trainer.parallel import device
from footplate_trainer.parallel.local_shard import as_dtensor

Groups = tuple[dist.ProcessGroup, ...]


@dataclass(frozen=True)
class PartialSum:
    """A tensor `here`, to be summed over each of `groups` in turn."""

    here: Tensor
    groups: Groups


def shard_groups(parameter: Tensor, dimension: int | None = None) -> Groups:
    """Return the groups that hold other blocks of `parameter` along `dimension`, or along any."""
    if not isinstance(parameter, DTensor):
        return ()
    mesh = parameter.device_mesh
    cut = [_cut_dimension(placement) for placement in parameter.placements]
    return tuple(
        mesh.get_group(axis)
        for axis, along in enumerate(cut)
        if along is not None and dimension in (None, along)
    )


def complete_sums(partials: Sequence[PartialSum]) -> None:
    """Sum each tensor over its groups, in place: one reduction for each group. Collective.

    All tensors have one dtype; the ranks of a group must name equal ones in equal order.
    """
    groups = dict.fromkeys(group for partial in partials for group in partial.groups)
    for group in groups:
        parts = [partial.here for partial in partials if group in partial.groups]
        flat = device.to_group_device(torch.cat([part.reshape(-1) for part in parts]), group)
        if flat.numel() == 0:
            continue
        dist.all_reduce(flat, group=group)
        for part, summed in zip(parts, flat.split_with_sizes([part.numel() for part in parts]), strict=True):
            part.copy_(summed.view_as(part))


def dtensor_along(parameter: Tensor, dimension: int, values: Tensor) -> Tensor:
    """Lay out `values`, one for each index of this rank's block along `dimension`, as that dimension is."""
    if not isinstance(parameter, DTensor):
        return values
    placements = [_as_first(placement, dimension) for placement in parameter.placements]
    return as_dtensor(values, parameter.device_mesh, placements, (parameter.shape[dimension],))


def _cut_dimension(placement: Placement) -> int | None:
    return placement.dim if isinstance(placement, Shard | _StridedShard) else None


def _as_first(placement: Placement, dimension: int) -> Placement:
    """Return the placement of a vector along `dimension` of a tensor that has `placement`."""
    if _cut_dimension(placement) != dimension:
        return Replicate()
    if isinstance(placement, _StridedShard):
        return _StridedShard(0, split_factor=placement.split_factor)
    return Shard(0)
