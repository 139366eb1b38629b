"""Limits the speed of checkpoint writes during training.

Where the step uses all cores, a thread that writes at full speed makes it take twice as long. So the thread
sleeps after each piece for a multiple of the CPU time that the piece took, until a caller waits for the end:
then it stops sleeping. Only CPU time counts: while the thread waits for a disk or a bucket it slows nothing
down and needs no sleep for that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

REST: Final = 3.0  # x the CPU time worked, so that at most a quarter of a core is taken
SMALLEST: Final = 0.002  # CPU seconds worked that are worth a rest


class WriteThrottle:
    """Rate limiter of one checkpoint's writes; constructed in the thread that writes."""

    def __init__(
        self,
        hurry: threading.Event,
        clock: Callable[[], float] = time.thread_time,
        rest: Callable[[float], object] | None = None,
    ) -> None:
        """Start the clock; `rest` sleeps for at most so many seconds, by default until `hurry` is set."""
        self._hurry = hurry
        self._clock = clock
        self._rest = rest or hurry.wait
        self._since = clock()

    def piece_done(self) -> None:
        """Sleep after a piece was written."""
        worked = self._clock() - self._since
        if worked < SMALLEST or self._hurry.is_set():
            return
        self._rest(worked * REST)
        self._since = self._clock()
