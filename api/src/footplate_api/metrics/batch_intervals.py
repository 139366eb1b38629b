"""Interval between the batches of a telemetry sender: the more senders there are, the longer.

A request costs more than the rows in it. A single run shows its steps at once; a thousand runs with five
seconds each make two hundred requests a second.

Senders that came together once, as after an outage, would come together for good if all intervals were equal:
so each interval is a little shorter or longer.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

REQUESTS: Final = 200.0  # a second, of all senders together
LEAST: Final = 0.5  # seconds
LONGEST: Final = 10.0
SPREAD: Final = 0.25  # of the time: so much less, or more, at most
REMEMBERED: Final = 30.0  # seconds since a run sent last


@dataclass
class BatchIntervals:
    """Recent senders; `chance` spreads their intervals."""

    chance: random.Random = field(default_factory=random.Random)
    _last: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def gather_seconds(self, run_uid: str, now: float) -> float:
        """Return the interval for `run_uid`, whose batch came at `now`, in seconds of a monotonic clock."""
        self._last[run_uid] = now
        self._last.move_to_end(run_uid)
        while next(iter(self._last.values())) < now - REMEMBERED:
            self._last.popitem(last=False)
        return batch_interval(len(self._last), self.chance.random())


def batch_interval(senders: int, chance: float) -> float:
    """Return the interval in seconds for one of `senders`; `chance` in [0, 1) spreads it if there are many.

    >>> batch_interval(1, 0.9), batch_interval(1000, 0.5)
    (0.5, 5.0)
    >>> batch_interval(1000, 0.0), batch_interval(100_000, 0.5)
    (3.75, 10.0)
    """
    seconds = min(senders / REQUESTS, LONGEST)
    return max(seconds * (1 + SPREAD * (2 * chance - 1)), LEAST)
