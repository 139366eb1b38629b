"""Numbers of a row that are no columns, as bytes: two for the name of each, eight for its value; pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_BYTES = 10  # a number


def pack(values: Mapping[int, float]) -> bytes:
    """`values` by the number of their name, which is below 65,536."""
    return struct.pack(f"<{len(values)}H{len(values)}d", *values, *values.values())


def unpack(packed: bytes) -> dict[int, float]:
    """The inverse of pack().

    >>> unpack(pack({3: 0.5, 0: -1.0}))
    {3: 0.5, 0: -1.0}
    """
    count = len(packed) // _BYTES
    both = struct.unpack(f"<{count}H{count}d", packed)
    return dict(zip(both[:count], both[count:], strict=True))
