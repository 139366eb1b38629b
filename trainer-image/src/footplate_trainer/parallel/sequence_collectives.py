"""Differentiable collectives along a sequence.

Tensor parallelism keeps norms and residuals on pieces of the sequence: a matrix
cut by columns first gathers the pieces, a matrix cut by rows reduces the ranks'
partial products and scatters the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


def gather_sequence(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Gather [batch, length / ranks, …] of each rank into [batch, length, …]; backward reduce-scatters."""
    gathered: Tensor = _ThereAndBack.apply(x, group, _gather, _scatter_sum)
    return gathered


def reduce_scatter_sequence(x: Tensor, group: dist.ProcessGroup, *, in_order: bool = False) -> Tensor:
    """Reduce-scatter partial sums [batch, length, …] of each rank to this rank's piece; backward gathers.

    `in_order` adds up in the order of ranks for each piece, whereas a ring collective begins at another rank
    for each.
    """
    piece: Tensor = _ThereAndBack.apply(
        x, group, _scatter_sum_in_order if in_order else _scatter_sum, _gather
    )
    return piece


Collective = Callable[[Tensor, dist.ProcessGroup], Tensor]


class _ThereAndBack(Function):
    """A collective in forward, and its counterpart in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, there: Collective, back: Collective) -> Tensor:
        ctx.group, ctx.back = group, back
        return there(x, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.back(gradient, ctx.group), None, None, None


def _gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    mine = x.transpose(0, 1).contiguous()  # [length / ranks, batch, …]: pieces then lie one after another
    whole = mine.new_empty(mine.shape[0] * group.size(), *mine.shape[1:])
    dist.all_gather_into_tensor(whole, mine, group=group)
    return whole.transpose(0, 1)


def _scatter_sum(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    whole = x.transpose(0, 1).contiguous()
    mine = whole.new_empty(whole.shape[0] // group.size(), *whole.shape[1:])
    dist.reduce_scatter_tensor(mine, whole, group=group)
    return mine.transpose(0, 1).contiguous()  # a pipeline sends nothing else


def _scatter_sum_in_order(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    mine = x.transpose(0, 1).contiguous()
    parts = torch.empty_like(mine)
    dist.all_to_all_single(parts, mine, group=group)
    first, *others = parts.chunk(group.size())
    return sum(others, start=first).transpose(0, 1).contiguous()
