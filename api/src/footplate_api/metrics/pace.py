"""How long senders are asked to gather: the more of them there are, the longer.

A request costs more than the rows in it. One run alone shows its steps at once; of a thousand, five seconds
together make two hundred requests a second of them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

REQUESTS: Final = 200.0  # a second, of all senders together
LEAST: Final = 0.5  # seconds
LONGEST: Final = 10.0
REMEMBERED: Final = 30.0  # seconds since a run sent last


@dataclass
class Pace:
    """Who sent lately."""

    _last: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def gather_seconds(self, run_uid: str, now: float) -> float:
        """For the sender of `run_uid`, which was heard at `now`, in seconds of any steady clock."""
        self._last[run_uid] = now
        self._last.move_to_end(run_uid)
        while next(iter(self._last.values())) < now - REMEMBERED:
            self._last.popitem(last=False)
        return gathering(len(self._last))


def gathering(senders: int) -> float:
    """Seconds for each of `senders` to gather.

    >>> gathering(1), gathering(1000), gathering(100_000)
    (0.5, 5.0, 10.0)
    """
    return min(max(senders / REQUESTS, LEAST), LONGEST)
