"""Rotary position embedding (Su et al. 2021), in the half-split layout of Llama."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from footplate_contracts.v1alpha1.model import RopeScaling


def rotary_frequencies(head_size: int, theta: float, scaling: RopeScaling | None = None) -> Tensor:
    """Return the radians per position by which each pair of columns turns: fp64 [head_size / 2]."""
    columns = torch.arange(0, head_size, 2, dtype=torch.float64)
    frequencies = theta ** (-columns / head_size)
    return frequencies if scaling is None else scale_frequencies(frequencies, scaling)


def scale_frequencies(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Apply Llama 3.1's rule: short waves keep their frequency, long ones slow down.

    A wave that fits more than `high_frequency_factor` times into the original context keeps its frequency;
    one that fits less than `low_frequency_factor` times is slowed by `factor`; between, the two are mixed.
    """
    fits = scaling.original_context_length * frequencies / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = ((fits - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor


def rotary_tables(length: int, frequencies: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute cos and sin of position x frequency, each fp32 [length, head_size].

    The second half of the columns repeats the first: column i turns together with column i + head_size / 2.
    """
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(device, torch.float32), angles.sin().to(device, torch.float32)


def apply_rotary(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn x [batch, heads, length, head_size] by tables [length, head_size]; keeps the dtype.

    Tables may differ from sequence to sequence: [batch, 1, length, head_size].
    """
    if x.dtype == cosine.dtype:
        turned: Tensor = _Turn.apply(x, cosine, sine)
        return turned
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat((-second, first), dim=-1)
    return (x * cosine + swapped * sine).to(x.dtype)


class _Turn(Function):
    """`apply_rotary` in half the passes over memory, where nothing is cast; backward turns the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turned(x, cosine, sine, 1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turned(gradient, cosine, sine, -1.0), None, None


def _turned(x: Tensor, cosine: Tensor, sine: Tensor, direction: float) -> Tensor:
    half = x.shape[-1] // 2
    turned = x * cosine
    turned[..., :half].addcmul_(x[..., half:], sine[..., :half], value=-direction)
    turned[..., half:].addcmul_(x[..., :half], sine[..., half:], value=direction)
    return turned
