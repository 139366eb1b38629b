"""Packs a row's numbers that have no column into bytes: two for each name, eight for each value; pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_BYTES = 10  # a number


def pack(values: Mapping[int, float]) -> bytes:
    """Pack `values` by the number of their name, which is below 65,536."""
    return struct.pack(f"<{len(values)}H{len(values)}d", *values, *values.values())


def unpack(packed: bytes) -> dict[int, float]:
    """Invert pack().

    >>> unpack(pack({3: 0.5, 0: -1.0}))
    {3: 0.5, 0: -1.0}
    """
    count = len(packed) // _BYTES
    both = struct.unpack(f"<{count}H{count}d", packed)
    return dict(zip(both[:count], both[count:], strict=True))
