"""Normalisation over the last dimension; statistics in fp32 whatever the input is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from footplate_contracts.v1alpha1.model import NormName
from footplate_planning.shape import ModelShape


class _RootMeanSquare(Function):
    """x / rms(x) * weight in fp32, in as few passes over memory as possible.

    On a CPU torch composes its own from a dozen passes, each of which costs as much as the arithmetic: this
    takes a third of the time, and saves a fiftieth of a small model's step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        inverse = mean_square.add_(epsilon).rsqrt_()
        normed = x * inverse
        ctx.save_for_backward(normed, weight, inverse)
        scaled: Tensor = normed * weight
        return scaled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        normed, weight, inverse = ctx.saved_tensors
        of_weight = (gradient * normed).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        of_normed = gradient * weight
        along = (of_normed * normed).mean(-1, keepdim=True)
        return of_normed.addcmul_(normed, along, value=-1).mul_(inverse), of_weight, None


class RMSNorm(nn.Module):
    """RMSNorm: x / rms(x) * weight, without subtracting a mean (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalize [..., size] -> [..., size], same dtype."""
        if x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32:
            normed: Tensor = _RootMeanSquare.apply(x, self.weight, self.epsilon)
            return normed
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def build_norm(shape: ModelShape) -> nn.Module:
    """Build the norm that `shape` configures, over the hidden size."""
    if shape.norm is NormName.LAYER:
        return nn.LayerNorm(shape.hidden, shape.norm_epsilon)
    return RMSNorm(shape.hidden, shape.norm_epsilon)
