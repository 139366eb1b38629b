"""Lag of the event loop: meanwhile the process sees, renews and answers nothing."""

from __future__ import annotations

import asyncio
from typing import Final

_PAUSE: Final = 0.25
_WINDOW: Final = 60.0


class LoopLag:
    """The longest lag of the last minute or two, the same for all readers."""

    def __init__(self) -> None:
        self._now = self._before = 0.0

    @property
    def longest(self) -> float:
        """Longest lag, in seconds."""
        return max(self._now, self._before)

    async def measure(self) -> None:
        """Measure until cancelled: the lag is the time by which a sleep ends late."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            due = clock() + _PAUSE
            await asyncio.sleep(_PAUSE)
            self._now = max(self._now, clock() - due)
            if clock() - began >= _WINDOW:
                self._before, self._now, began = self._now, 0.0, clock()
