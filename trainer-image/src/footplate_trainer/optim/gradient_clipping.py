"""Norm and clipping of sharded gradients, and detection of the rank whose gradient is not finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from footplate_trainer.parallel.local_shard import to_local


def square_norm(gradients: list[Tensor]) -> Tensor:
    """Return the sum of squares over `gradients`: fp64 scalar. The caller adds up the ranks of one copy.

    Row by row in fp32, the rows in fp64: a running fp32 sum over a whole matrix is off by 2e-5 on a CPU, and
    by another amount for each way of sharding.
    """
    rows = [torch.linalg.vector_norm(gradient, dim=-1).reshape(-1) for gradient in gradients]
    return torch.cat(rows).double().square().sum()


def clip_gradients(gradients: list[Tensor], norm: float, limit: float) -> None:
    """Scale `gradients` in place so that the global `norm` becomes at most `limit`; 0 is no limit."""
    if limit and norm > limit:
        torch._foreach_mul_(gradients, limit / norm)


class GradientMonitor:
    """Detector of non-finite gradients at `embedding`'s output; a pipeline stage without one detects nothing.

    Once gradients are reduced, one rank's NaN is every rank's. The gradient that flows back through the
    network is still the rank's own, and any NaN on the way is also in the last part of it, the gradient of
    the embedding's output. Checking that costs one sum and no wait.
    """

    def __init__(self, embedding: nn.Module | None, device: torch.device) -> None:
        # NaN and infinity stay in a running sum for ever, finite gradients do not fill fp64.
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        if embedding is not None:
            embedding.register_forward_hook(self._forward)

    def has_nonfinite_gradient(self) -> bool:
        """Return whether a gradient of this rank was not finite; waits for the device."""
        return not bool(self._sum.isfinite())

    def _forward(self, module: nn.Module, arguments: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(self._backward)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def _backward(self, gradient: Tensor) -> None:
        self._sum += to_local(gradient).sum(dtype=torch.float64)
