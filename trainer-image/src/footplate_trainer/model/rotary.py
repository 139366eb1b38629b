"""Rotary position embedding (Su et al. 2021), in the half-split layout of Llama."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_tables(length: int, head_size: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of position x frequency, each fp32 [length, head_size].

    The second half of the columns repeats the first: column i turns together
    with column i + head_size / 2.
    """
    columns = torch.arange(0, head_size, 2, dtype=torch.float64)
    frequencies = theta ** (-columns / head_size)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(device, torch.float32), angles.sin().to(device, torch.float32)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn x [batch, heads, length, head_size] by tables [length, head_size]; keeps the dtype."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x * cosine + turned * sine).to(x.dtype)
