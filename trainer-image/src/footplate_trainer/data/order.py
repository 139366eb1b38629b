"""The samples and random numbers of each step, independent of rank and world size.

A run that shrinks, grows or restarts must neither lose nor repeat a sample, and no rank should have to store
or receive its position. So the order is a pure function of (seed, global sample index): index // n is the
epoch, and within an epoch a keyed permutation of 0 … n-1 is evaluated for one index at a time, without ever
being written out.

The permutation is a Feistel network over Z_a x Z_b with a·b ≥ n, whose few surplus values are walked again
until they fall below n: "method 2" and "cycle walking" of Black & Rogaway, Ciphers with Arbitrary Finite
Domains (CT-RSA 2002). The round function is the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014)
under round keys from BLAKE2b. A sample's random numbers come from the same finaliser. Neither may ever
change: runs resume on them.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Float64s = NDArray[np.float64]

# Even, so that both halves end where they started; 8 leave no visible structure (see the tests).
ROUNDS: Final = 8
FILLER: Final = -1
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's increment


def global_indices(step: int, global_batch_size: int) -> Int64s:
    """Return the global sample indices of `step` (from 0): int64 [global_batch_size], consecutive."""
    if step < 0 or global_batch_size < 1:
        raise ValueError(f"step {step}, global batch size {global_batch_size}: must be >= 0 and >= 1")
    first = step * global_batch_size
    return np.arange(first, first + global_batch_size, dtype=np.int64)


def sample_ids(seed: int, indices: Int64s, samples: int) -> Int64s:
    """Return the samples at global `indices` of the endless order.

    `indices` int64 [k], any values >= 0; `samples` is the length of the data set. Returns int64 [k] in 0 …
    samples-1; each epoch has each sample once.
    """
    if samples < 1:
        raise ValueError(f"cannot order {samples} samples; must be at least 1")
    ids = np.empty_like(indices)
    epochs = indices // samples
    for epoch in np.unique(epochs):
        here = epochs == epoch
        ids[here] = permute(seed, int(epoch), indices[here] - epoch * samples, samples)
    return ids


def sample_digest(ids: Int64s) -> str:
    """Return the first 16 hex digits of SHA-256 over `ids` as little-endian int64, in order."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<i8").tobytes()).hexdigest()[:16]


def permute(seed: int, epoch: int, values: Int64s, size: int) -> Int64s:
    """Map `values` by the permutation of (seed, epoch): int64 [k], all in 0 … size-1."""
    left_size = math.isqrt(size - 1) + 1  # ceil(sqrt(size))
    right_size = -(-size // left_size)
    keys = _round_keys(seed, epoch)
    result = _feistel(values.astype(np.uint64), left_size, right_size, keys)
    while (outside := np.flatnonzero(result >= size)).size:
        result[outside] = _feistel(result[outside], left_size, right_size, keys)
    return result.astype(np.int64)


def shard_batch(global_batch_size: int, micro_batch_size: int, data_degree: int, data_rank: int) -> Int64s:
    """Return the positions of the global batch that `data_rank` trains on.

    The global batch is cut into micro-batches, distributed round-robin; ranks with fewer get fillers, so that
    every rank runs equally many and collectives match. Returns int64 [micro-batches, micro_batch_size] of
    positions in 0 … global_batch_size-1, FILLER where the micro-batch has no weight.
    """
    if micro_batch_size < 1 or global_batch_size < 1 or global_batch_size % micro_batch_size:
        raise ValueError(
            f"globalBatchSize {global_batch_size} is not a multiple of microBatchSize {micro_batch_size}"
        )
    if not 0 <= data_rank < data_degree:
        raise ValueError(f"data rank {data_rank} is outside 0 … {data_degree - 1}")
    total = global_batch_size // micro_batch_size
    each = -(-total // data_degree)
    places = np.full((each, micro_batch_size), FILLER, dtype=np.int64)
    mine = np.arange(global_batch_size, dtype=np.int64).reshape(total, micro_batch_size)[
        data_rank::data_degree
    ]
    places[: len(mine)] = mine
    return places


def uniforms(seed: int, purpose: str, index: int, count: int) -> Float64s:
    """Return `count` random numbers in [0, 1) for the sample at global `index`: float64 [count].

    The hidden tokens of a sample must be the same on any rank and however often it is read again. So its
    numbers are a hash of (seed, purpose, global sample index, position). `purpose`, at most 16 characters,
    separates draws for different uses.
    """
    message = seed.to_bytes(16, "little", signed=True) + index.to_bytes(8, "little", signed=True)
    key = hashlib.blake2b(message, digest_size=8, person=purpose.encode()).digest()
    places = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    bits = _mix(places + np.uint64(int.from_bytes(key, "little"))) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _round_keys(seed: int, epoch: int) -> list[np.uint64]:
    message = seed.to_bytes(16, "little", signed=True) + epoch.to_bytes(8, "little")
    digest = hashlib.blake2b(message, digest_size=8 * ROUNDS, person=b"footplate-order").digest()
    return [np.uint64(key) for key in np.frombuffer(digest, dtype="<u8")]


def _feistel(values: UInt64s, left_size: int, right_size: int, keys: list[np.uint64]) -> UInt64s:
    """Apply the network once over Z_left_size x Z_right_size, a bijection of 0 … left_size·right_size - 1."""
    left, right = np.divmod(values, np.uint64(right_size))
    modulus, other = np.uint64(left_size), np.uint64(right_size)
    for key in keys:
        left, right = right, (left + _mix(right ^ key) % modulus) % modulus
        modulus, other = other, modulus
    return left * np.uint64(right_size) + right


def _mix(values: UInt64s) -> UInt64s:
    """Apply SplitMix64's finaliser: a bijection of 64-bit numbers that leaves no pattern."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
