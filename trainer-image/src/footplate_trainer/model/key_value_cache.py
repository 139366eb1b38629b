"""Keys and values of the tokens seen so far, so that generating one more costs one token."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValueCache:
    """One layer's keys and values: fixed room for `length` positions, filled from the left."""

    def __init__(self, batch: int, heads: int, length: int, head_size: int, like: Tensor) -> None:
        room = (batch, heads, length, head_size)
        self.keys = torch.empty(room, dtype=like.dtype, device=like.device)
        self.values = torch.empty(room, dtype=like.dtype, device=like.device)
        self.filled = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append [batch, heads, new, head_size]; returns everything so far along the same axis."""
        end = self.filled + keys.shape[2]
        self.keys[:, :, self.filled : end] = keys
        self.values[:, :, self.filled : end] = values
        self.filled = end
        return self.keys[:, :, :end], self.values[:, :, :end]
