"""RMSNorm: scale by the root mean square, no mean subtracted (Zhang & Sennrich 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RootMeanSquareNorm(nn.Module):
    """x / rms(x) * weight over the last dimension; statistics in fp32 whatever x is."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] -> [..., size], same dtype."""
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)
