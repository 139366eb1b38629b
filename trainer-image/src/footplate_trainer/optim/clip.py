"""Gradient norm and clipping on shards, with one reduction for the whole model."""

from __future__ import annotations

import torch
from torch import Tensor


def square_norm(gradients: list[Tensor]) -> Tensor:
    """Sum of squares over `gradients`: fp64 scalar. The caller adds up the ranks of one copy.

    Row by row in fp32, the rows in fp64: a running fp32 sum over a whole matrix
    is off by 2e-5 on a CPU, and by another amount for each way of sharding.
    """
    rows = [torch.linalg.vector_norm(gradient, dim=-1).reshape(-1) for gradient in gradients]
    return torch.cat(rows).double().square().sum()


def clip(gradients: list[Tensor], norm: float, limit: float) -> None:
    """Scale `gradients` in place so that the global `norm` becomes at most `limit`; 0 is no limit."""
    if limit and norm > limit:
        torch._foreach_mul_(gradients, limit / norm)
