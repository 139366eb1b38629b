"""A checksum of weights, in 16 hex digits, equal in every layout."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.local_shard import local_shard

# Numbers that are hashed at once, 8 bytes each: few where they stay in a processor's cache from one operation
# to the next, many where each operation is a kernel.
_AT_ONCE: Final = {"cpu": 1 << 16}
_ELSEWHERE: Final = 1 << 20
_GOLDEN, _FIRST, _SECOND = (
    -0x61C8864680B583EB,
    -0x40A7B892E31B1A47,
    -0x6B2FB644ECCEEE15,
)  # as SplitMix64 has them


def weights_checksum(parameters: Mapping[str, Tensor], group: dist.ProcessGroup) -> str:
    """Return a digest that is equal for equal fp32 numbers under equal names and shapes, in any layout.

    Each number is hashed with its index in the whole parameter, and hashes are added up modulo 2^64: so any
    cut gives one sum, and copies of one block are counted once. Collective.
    """
    mine = []
    for name, parameter in parameters.items():
        shard = local_shard(parameter)
        if not shard.local.numel():
            continue  # others have it all
        mine.append(
            (name, tuple(parameter.shape), shard.start, _summed(shard.local, shard.start, parameter.shape))
        )
    blocks = {
        (name, shape, start): summed
        for held in object_collectives.all_gather(mine, group)
        for name, shape, start, summed in held
    }
    sums: dict[tuple[str, tuple[int, ...]], int] = defaultdict(int)
    for (name, shape, _), summed in blocks.items():
        sums[name, shape] += summed
    told = sorted([name, list(shape), summed % 2**64] for (name, shape), summed in sums.items())
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _summed(local: Tensor, start: tuple[int, ...], shape: torch.Size) -> int:
    """Return the sum of hashes of a block that begins at `start` in a 1- or 2-dimensional `shape`."""
    columns = shape[1] if len(shape) > 1 else 1
    rows = local.reshape(local.shape[0], -1)
    here = torch.arange(rows.shape[1], device=local.device) + (start[1] if len(start) > 1 else 0)
    at_once = max(1, _AT_ONCE.get(local.device.type, _ELSEWHERE) // max(1, rows.shape[1]))
    total = 0
    for first in range(0, rows.shape[0], at_once):
        part = rows[first : first + at_once]
        above = torch.arange(first, first + len(part), device=local.device) + start[0]
        places = (above * columns)[:, None] + here
        bits = part.float().contiguous().view(torch.int32).long()
        total += int(_mixed(bits + places * _GOLDEN).sum().item())
    return total


def _mixed(numbers: Tensor) -> Tensor:
    """Apply SplitMix64's finaliser to int64; its shifts keep the sign, which is as good here."""
    numbers = (numbers ^ (numbers >> 30)) * _FIRST
    numbers = (numbers ^ (numbers >> 27)) * _SECOND
    return numbers ^ (numbers >> 31)
