"""How fast a checkpoint is written while training goes on.

Where the step uses all cores, a thread that writes at full speed makes it take
twice as long. So it rests after each piece for a multiple of the time that the
piece took, until someone waits for the end: then it hurries. Only computing
counts: while it waits for a disk or a bucket it disturbs nobody, and needs no
rest for that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

REST: Final = 3.0  # x the CPU time worked, so that at most a quarter of a core is taken
SMALLEST: Final = 0.002  # CPU seconds worked that are worth a rest


class Pace:
    """Of one checkpoint; made in the thread that writes."""

    def __init__(
        self,
        hurry: threading.Event,
        clock: Callable[[], float] = time.thread_time,
        rest: Callable[[float], object] | None = None,
    ) -> None:
        """`rest` sleeps for so many seconds at most; by default until `hurry` is set."""
        self._hurry = hurry
        self._clock = clock
        self._rest = rest or hurry.wait
        self._since = clock()

    def piece_done(self) -> None:
        """A piece is written: rest."""
        worked = self._clock() - self._since
        if worked < SMALLEST or self._hurry.is_set():
            return
        self._rest(worked * REST)
        self._since = self._clock()
