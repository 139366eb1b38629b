"""So many at once; some wait for their turn, and the others are told to come back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from footplate_api.errors import ApiError, TooManyRequests

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


class SharedTurns:
    """Turns of `at_once` callers, one each, who come round-robin; `most` requests wait for `seconds` at most.

    `of_one` of these are one caller's. Where all places are taken, the caller with the most waiting requests
    gives up the newest of them to one with fewer.
    """

    def __init__(self, at_once: int, most: int, of_one: int, seconds: float, refusal: Refusal) -> None:
        self.at_once = at_once
        self.most = most
        self.of_one = of_one
        self.seconds = seconds
        self._refusal = refusal
        self._served: set[str] = set()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by caller; whose turn is next is first

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Give `caller` a turn while the block runs; raises TooManyRequests or what `refusal` gives."""
        if caller in self._served or len(self._served) >= self.at_once:
            await self._wait(caller)
        else:
            self._served.add(caller)
        try:
            yield
        finally:
            self._end(caller)

    async def _wait(self, caller: str) -> None:
        self._make_room(caller)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(place)
        try:
            async with asyncio.timeout(self.seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._end(caller)  # it was served, and is gone
            elif place in self._waiting.get(caller, ()):
                self._remove(caller, place)
            if isinstance(error, TimeoutError):
                raise self._refusal(None) from None
            raise

    def _make_room(self, caller: str) -> None:
        own = len(self._waiting.get(caller, ()))
        if own >= self.of_one:
            said = f"{own} such requests of {caller} wait already; send the next once one is answered."
            raise TooManyRequests.wait(said, 1.0)
        if self.waiting < self.most:
            return
        longest = max(self._waiting, key=lambda known: len(self._waiting[known]), default=caller)
        if len(self._waiting.get(longest, ())) <= own + 1:
            raise self._refusal(self.waiting)
        newest = self._waiting[longest][-1]
        self._remove(longest, newest)
        newest.set_exception(self._refusal(self.most))

    def _remove(self, caller: str, place: asyncio.Future[None]) -> None:
        self._waiting[caller].remove(place)
        if not self._waiting[caller]:
            del self._waiting[caller]

    def _end(self, caller: str) -> None:
        self._served.discard(caller)
        if caller in self._waiting:
            self._waiting[caller] = self._waiting.pop(caller)  # behind all others
        following = next((known for known in self._waiting if known not in self._served), None)
        if following is not None:
            place = self._waiting[following][0]
            self._remove(following, place)
            self._served.add(following)
            place.set_result(None)
