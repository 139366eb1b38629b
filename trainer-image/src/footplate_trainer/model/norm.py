"""Normalisation over the last dimension; statistics in fp32 whatever the input is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from footplate_contracts.v1alpha1.model import NormName
from footplate_trainer.shape import ModelShape


class RootMeanSquareNorm(nn.Module):
    """x / rms(x) * weight: no mean subtracted (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] -> [..., size], same dtype."""
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def norm_of(shape: ModelShape) -> nn.Module:
    """The norm that `shape` asks for, over the hidden size."""
    if shape.norm is NormName.LAYER:
        return nn.LayerNorm(shape.hidden, shape.norm_epsilon)
    return RootMeanSquareNorm(shape.hidden, shape.norm_epsilon)
