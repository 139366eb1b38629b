"""Which rank's gradients went bad, known before they are mixed with those of the others.

Once gradients are reduced, one rank's NaN is everybody's. What flows back
through the network is still its own, and whatever went wrong on the way down
is in the last of it, the gradient of the embedding's output. Looking at that
costs one sum and no wait.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from footplate_trainer.parallel.local_shard import to_local


class GradientWatch:
    """Watches the gradient that reaches `embedding`; a pipeline stage without one sees nothing."""

    def __init__(self, embedding: nn.Module | None, device: torch.device) -> None:
        # NaN and infinity stay in a running sum for ever, finite gradients do not fill fp64.
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        if embedding is not None:
            embedding.register_forward_hook(self._forward)

    def went_bad(self) -> bool:
        """Whether a gradient of this rank was not finite; waits for the device."""
        return not bool(self._sum.isfinite())

    def _forward(self, module: nn.Module, arguments: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(self._backward)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def _backward(self, gradient: Tensor) -> None:
        self._sum += to_local(gradient).sum(dtype=torch.float64)
