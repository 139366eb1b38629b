"""Rate of progress writes to the API server.

A thousand objects that are each written every second would be a load that serves no reader, yet a demo that
shows nothing for 15 s looks dead. State changes are written at once; bare progress every max(15 s, live
objects / 50 per second), and every 3 s where fewer than 50 live, which is at most 17 writes a second.
"""

from __future__ import annotations

import zlib
from enum import StrEnum
from typing import Final

FEW: Final = 50
FEW_SECONDS: Final = 3.0
LEAST_SECONDS: Final = 15.0
WRITES_PER_SECOND: Final = 50.0
_JITTER: Final = 0.2


class StatusChange(StrEnum):
    """Importance of a new status."""

    NOTHING = "nothing"
    PROGRESS = "progress"
    STATE = "state"


def progress_interval(live: int, uid: str) -> float:
    """Return the seconds between two progress writes of the object `uid`, one of `live`."""
    base = FEW_SECONDS if live < FEW else max(LEAST_SECONDS, live / WRITES_PER_SECOND)
    return base * jitter(uid)


def jitter(uid: str) -> float:
    """Return a factor of 0.8 to 1.2 that spreads objects in time; the same for each call."""
    return 1.0 - _JITTER + 2.0 * _JITTER * zlib.crc32(uid.encode()) / 0xFFFFFFFF
