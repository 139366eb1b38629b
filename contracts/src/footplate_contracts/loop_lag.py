"""How long the event loop stood still: meanwhile nothing is seen, renewed or answered."""

from __future__ import annotations

import asyncio
from typing import Final

_PAUSE: Final = 0.25
_WINDOW: Final = 60.0


class LoopLag:
    """The longest lag of the last minute or two; however many ask, all are told the same."""

    def __init__(self) -> None:
        self._now = self._before = 0.0

    @property
    def longest(self) -> float:
        """Seconds."""
        return max(self._now, self._before)

    async def measure(self) -> None:
        """Measure until cancelled: whoever wakes late was kept waiting."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            due = clock() + _PAUSE
            await asyncio.sleep(_PAUSE)
            self._now = max(self._now, clock() - due)
            if clock() - began >= _WINDOW:
                self._before, self._now, began = self._now, 0.0, clock()
