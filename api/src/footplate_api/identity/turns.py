"""How many ask Kubernetes at once: whoever sends it ever new tokens does not send them to its API server.

A review costs the API server more than a request costs its sender. Those who are known ask in a line of
their own, or strangers would keep them waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from footplate_api.errors import TooManyTokens

AT_ONCE: Final = 32  # reviews in flight
WAITING: Final = 500  # a fleet of coordinators that are all unknown, as after a restart of this process
SECONDS: Final = 5.0  # that one waits for its turn


class Turns:
    """At most `at_once` have their turn; `waiting` others wait, in order and for `seconds` at most."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING, seconds: float = SECONDS) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._most = waiting
        self._seconds = seconds
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One's turn, for as long as the block takes; raises TooManyTokens for who does not get it."""
        await self._wait()
        try:
            yield
        finally:
            self._turns.release()

    async def _wait(self) -> None:
        if self._turns.locked() and self._waiting >= self._most:
            raise TooManyTokens(f"{self._waiting} tokens wait to be reviewed already; send this one later.")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise TooManyTokens("Kubernetes is slow to review tokens; send this one later.") from None
        finally:
            self._waiting -= 1
