"""Rotary position embedding (Su et al. 2021), in the half-split layout of Llama."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from footplate_trainer.shape import RopeStretch


def rotary_frequencies(head_size: int, theta: float, stretch: RopeStretch | None = None) -> Tensor:
    """Radians that each pair of columns turns by from one position to the next: fp64 [head_size / 2]."""
    columns = torch.arange(0, head_size, 2, dtype=torch.float64)
    frequencies = theta ** (-columns / head_size)
    return frequencies if stretch is None else stretched(frequencies, stretch)


def stretched(frequencies: Tensor, stretch: RopeStretch) -> Tensor:
    """Llama 3.1's rule: waves shorter than a share of the original context stay, long ones slow down.

    A wave that fits more than `high_frequency_factor` times into the original
    context keeps its frequency; one that fits less than `low_frequency_factor`
    times is slowed by `factor`; between, the two are mixed.
    """
    fits = stretch.original_context * frequencies / (2 * math.pi)
    low, high = stretch.low_frequency_factor, stretch.high_frequency_factor
    kept = ((fits - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / stretch.factor


def rotary_tables(length: int, frequencies: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of position x frequency, each fp32 [length, head_size].

    The second half of the columns repeats the first: column i turns together
    with column i + head_size / 2.
    """
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(device, torch.float32), angles.sin().to(device, torch.float32)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn x [batch, heads, length, head_size] by tables [length, head_size]; keeps the dtype."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x * cosine + turned * sine).to(x.dtype)
