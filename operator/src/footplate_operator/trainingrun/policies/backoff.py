"""A substitute is made at once, unless its predecessors died young as well.

One lost pod deserves no waiting. A pod that dies in its first seconds again and
again would turn the operator into a fork bomb, so each further early death
doubles the wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

YOUNG: Final = timedelta(seconds=20)
LONGEST_SECONDS: Final = 60.0
FORGOTTEN: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class Life:
    """A pod's, from creation to end."""

    born: datetime
    died: datetime


def not_before(lives: Sequence[Life], now: datetime) -> datetime:
    """When the next pod of this place may be made; `now` or earlier: at once.

    Early deaths of the last ten minutes count: 0 or 1 wait nothing, n wait
    2^(n-1) s after the last one, at most 60 s.
    """
    early = [life for life in lives if life.died - life.born < YOUNG and now - life.died < FORGOTTEN]
    if len(early) < 2:
        return now
    wait = min(LONGEST_SECONDS, 2.0 ** (len(early) - 1))
    return max(life.died for life in early) + timedelta(seconds=wait)
