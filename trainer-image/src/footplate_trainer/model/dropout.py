"""Dropout that drops the same numbers whichever rank computes them.

A generator's state depends on what was drawn before, so it depends on the layout. Here randomness is a
function: whether a number is dropped follows from (seed, step, sample, site, row, column), hashed by
MurmurHash3's 64-bit finaliser, so that any rank may compute any piece of a mask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BITS = 24  # of the hash that are used
_ROW, _COLUMN = -7046029254386353131, -4417276706812531889  # odd, from the golden ratio and xxHash


@dataclass(frozen=True)
class DropoutSeed:
    """The inputs that determine, with the position in the network, which numbers are dropped."""

    seed: int
    step: int
    samples: Tensor  # int64 [batch]: which sample of the data each sequence is


class HashRandomModule(nn.Module):
    """Base of modules that draw random numbers by hash, one for each element of their part of the network.

    `site` is the module's name in the network. A rank that has a shard of each sequence sets `sequence_shard`
    to its index among equal shards, a rank that has some heads sets `first_head`, a rank that has some
    columns sets `first_column`.
    """

    def __init__(self, site: str) -> None:
        super().__init__()
        self.key = int.from_bytes(hashlib.blake2b(site.encode(), digest_size=8).digest(), "little") >> 1
        self.sequence_shard = 0
        self.first_head = 0
        self.first_column = 0

    def random_integers(
        self, shape: torch.Size, device: torch.device, seed: DropoutSeed, positions: Tensor | None
    ) -> Tensor:
        """Draw 0 … 2^24 - 1, int64 of `shape`: [batch, length, columns], or with heads after batch.

        `positions` int64 [length] of the rows in their sequence; None: 0, 1, 2, … A rank that has a shard of
        a sequence has all of its attention's rows.
        """
        start = self.sequence_shard * shape[1] if len(shape) == 3 else 0
        rows = torch.arange(start, start + shape[-2], device=device)
        if positions is not None:
            rows = positions[rows]
        first = _mixed(seed.samples.to(device) ^ _mixed_number(seed.seed, seed.step, self.key))
        if len(shape) == 4:
            heads = torch.arange(shape[1], device=device) + self.first_head
            first = _mixed(first[:, None] + heads * _ROW)
        counters = first[..., None, None] + (rows * _ROW)[:, None]
        columns = torch.arange(shape[-1], device=device) + self.first_column
        hashed = _mixed(counters + columns * _COLUMN)
        return (hashed >> (64 - BITS)) & ((1 << BITS) - 1)


Draw = Callable[[torch.Size, torch.device, DropoutSeed, Tensor | None], Tensor]
"""(shape, device, dropout_seed, positions) -> what is kept."""


class HashDropout(HashRandomModule):
    """Dropout: zeroes a share of the numbers and scales up the rest; does nothing outside training.

    `draw` may be wrapped by code that must not trace into it.
    """

    def __init__(self, probability: float, site: str) -> None:
        super().__init__(site)
        self.probability = probability
        self.draw: Draw = self._draw

    @property
    def is_active(self) -> bool:
        """True if anything is dropped."""
        return self.training and self.probability > 0

    def forward(self, x: Tensor, dropout_seed: DropoutSeed | None, positions: Tensor | None = None) -> Tensor:
        """Drop from x [batch, length, hidden] or weights [batch, heads, length, keys].

        See `random_integers`.
        """
        if not self.is_active:
            return x
        assert dropout_seed is not None, "dropout needs step and samples"
        return x * self.draw(x.shape, x.device, dropout_seed, positions) / (1 - self.probability)

    def _draw(
        self, shape: torch.Size, device: torch.device, dropout_seed: DropoutSeed, positions: Tensor | None
    ) -> Tensor:
        """Return the mask of retained numbers: bool of `shape`."""
        numbers = self.random_integers(shape, device, dropout_seed, positions)
        return numbers >= round(self.probability * (1 << BITS))


def _mixed(x: Tensor) -> Tensor:
    """Apply MurmurHash3's fmix64, elementwise on int64; >> extends the sign, which is masked off."""
    low = (1 << 31) - 1
    x = (x ^ ((x >> 33) & low)) * -49064778989728563
    x = (x ^ ((x >> 33) & low)) * -4265267296055464877
    return x ^ ((x >> 33) & low)


def _mixed_number(*numbers: int) -> int:
    """Hash several numbers to a signed 64-bit number."""
    text = "/".join(str(number) for number in numbers)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
