"""What a pass through the network is told, what travels, and what its blocks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

States = tuple[Tensor, ...]
"""What travels from block to block, [batch, length, hidden] each; floats only: it may go to other ranks."""


@dataclass(frozen=True)
class Inputs:
    """One micro-batch beside its activations; every pipeline stage is given the same."""

    tokens: Tensor  # int64 [batch, length]
    documents: Tensor | None = None  # [batch, length]: attention stays within one; None: there is one
    positions: Tensor | None = None  # int64 [length] in the sequence; None: 0, 1, 2, …


@dataclass(frozen=True)
class Shared:
    """What all blocks of a pass have in common."""

    rotary: tuple[Tensor, Tensor]  # tables over the positions of x
    reach: Any  # what the network's `visible` says to attention's `attend`; they agree between themselves
