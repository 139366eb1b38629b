"""Initial weights that do not depend on the model's layout over ranks.

A run must be the same run on one rank and on a thousand, and no rank may have to draw the whole model. So
weights are drawn in blocks of rows, each block from a generator of its own, keyed by (seed, parameter name,
block): every rank that has a row draws the same numbers for it.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from footplate_trainer.model.linear import is_adapter_parameter

ROWS_PER_BLOCK = 64


def block_seed(seed: int, name: str, block: int) -> int:
    """Return the seed of a row block: 63 bits of BLAKE2b over the key."""
    digest = hashlib.blake2b(f"{seed}/{name}/{block}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def normal_rows(
    seed: int, name: str, first: int, rows: int, columns: int, standard_deviation: float
) -> Tensor:
    """Draw rows first … first + rows - 1 of the matrix `name`: fp32 [rows, columns] on the CPU."""
    drawn = torch.empty(rows, columns)
    generator = torch.Generator()
    block = first // ROWS_PER_BLOCK
    while (start := block * ROWS_PER_BLOCK) < first + rows:
        generator.manual_seed(block_seed(seed, name, block))
        values = torch.empty(ROWS_PER_BLOCK, columns).normal_(0.0, standard_deviation, generator=generator)
        low, high = max(start, first), min(start + ROWS_PER_BLOCK, first + rows)
        drawn[low - first : high - first] = values[low - start : high - start]
        block += 1
    return drawn


def initialize_rows(local: Tensor, name: str, first: int, seed: int, standard_deviation: float) -> None:
    """Fill `local`, the rows of parameter `name` from row `first` on, in place.

    Matrices get N(0, standard_deviation), biases zeros, other vectors (norm weights) ones. Of an adapter, B
    gets zeros, so that the adapter has no effect at first, and A a variance that depends on the number of its
    inputs.
    """
    with torch.no_grad():
        if local.ndim == 1:
            local.fill_(0.0 if name.endswith("bias") else 1.0)
        elif local.numel():
            rows, columns = local.shape
            if is_adapter_parameter(name):
                # The variance of U(-1 / sqrt(inputs), 1 / sqrt(inputs)), torch's usual one of a linear layer.
                standard_deviation = 0.0 if name.endswith(".b") else (3 * columns) ** -0.5
            local.copy_(normal_rows(seed, name, first, rows, columns, standard_deviation))
