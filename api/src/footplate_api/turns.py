"""So many at once; some wait for their turn, and the others are told to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from footplate_api.errors import ApiError

Refusal = Callable[[int | None], ApiError]
"""For who gets no turn, as so many wait already, or, with None, after having waited."""


class Turns:
    """At most `at_once` have their turn; `most` others wait, in order and for `seconds` at most."""

    def __init__(self, at_once: int, most: int, seconds: float, refusal: Refusal) -> None:
        self.at_once = at_once
        self.most = most
        self.seconds = seconds
        self.waiting = 0
        self._refusal = refusal
        self._turns = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One's turn, for as long as the block takes; raises what `refusal` gives for who does not get it."""
        await self._wait()
        try:
            yield
        finally:
            self._turns.release()

    def check(self) -> None:
        """Raises what `refusal` gives where too many wait already."""
        if self._turns.locked() and self.waiting >= self.most:
            raise self._refusal(self.waiting)

    async def _wait(self) -> None:
        self.check()
        self.waiting += 1
        try:
            async with asyncio.timeout(self.seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise self._refusal(None) from None
        finally:
            self.waiting -= 1
