"""Random numbers that belong to a sample, and not to whoever happens to draw them.

What is hidden of a sample must be the same whichever rank trains on it and
however often it is read again. So there is no generator with a state: the
numbers of one sample are a hash of (seed, purpose, global sample index, place).
Like the order of the samples, this must never change: runs resume on it.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from footplate_trainer.data.order import mix

Float64s = NDArray[np.float64]
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's increment


def uniforms(seed: int, purpose: str, index: int, count: int) -> Float64s:
    """`count` numbers in [0, 1) of the sample at global `index`: float64 [count].

    `purpose`, at most 16 characters, keeps draws for different things apart.
    """
    message = seed.to_bytes(16, "little", signed=True) + index.to_bytes(8, "little", signed=True)
    key = hashlib.blake2b(message, digest_size=8, person=purpose.encode()).digest()
    places = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    bits = mix(places + np.uint64(int.from_bytes(key, "little"))) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
