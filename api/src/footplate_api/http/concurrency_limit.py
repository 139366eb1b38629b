"""Concurrency limits of requests: with a bounded queue, and of each caller. Those beyond it are refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from footplate_api.errors import ApiError, TooManyRequests

Refusal = Callable[[int | None], ApiError]
"""For who gets no turn, as so many wait already, or, with None, after having waited."""


def refusals(error: type[ApiError], slow: str, full: str) -> Refusal:
    """Return what makes an `error`: `slow` after a wait in vain, `full` with the number of who wait."""
    return lambda waiting: error(slow if waiting is None else full.format(waiting))


class ConcurrencyLimit:
    """Limit of `at_once` callers with one request each, round-robin; `most` wait, for `seconds` at most.

    `of_one` of the waiting requests may be one caller's. In a full queue, the caller with the most waiting
    requests loses the newest of them to a caller with fewer. A request without a caller counts as a caller of
    its own.
    """

    def __init__(self, at_once: int, most: int, seconds: float, refusal: Refusal, of_one: int = 1) -> None:
        self.at_once, self.most, self.of_one = at_once, most, of_one
        self.seconds = seconds
        self._refusal = refusal
        self._served: dict[asyncio.Future[None], object] = {}  # callers
        self._waiting: dict[asyncio.Future[None], object] = {}  # callers, of whom the first is next

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return len(self._waiting)

    @asynccontextmanager
    async def acquire(self, caller: str | None = None) -> AsyncIterator[None]:
        """Wait for a place of `caller`, and hold it in the block; raises TooManyRequests or the `refusal`."""
        self.check(caller)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[place] = place if caller is None else caller
        self._serve()
        try:
            await self._wait(place)
            yield
        finally:
            self._waiting.pop(place, None)
            if self._served.pop(place, None) is not None:  # behind all others
                for own in [known for known, name in self._waiting.items() if name == caller]:
                    self._waiting[own] = self._waiting.pop(own)
            self._serve()

    def check(self, caller: str | None = None) -> None:
        """Make room for a request of `caller`; raises TooManyRequests or the `refusal`."""
        if len(self._served) < self.at_once and caller not in self._served.values():
            return
        waiting = Counter(self._waiting.values())
        own = waiting[caller]
        if own >= self.of_one:
            said = f"{own} such requests of {caller} wait already; retry when one of them has a response."
            raise TooManyRequests.wait(said, 1.0)
        if self.waiting < self.most:
            return
        longest = max(waiting, key=waiting.__getitem__, default=caller)
        if waiting[longest] <= own + 1:
            raise self._refusal(self.waiting)
        newest = [place for place, name in self._waiting.items() if name == longest][-1]
        del self._waiting[newest]
        if not newest.done():
            newest.set_exception(self._refusal(self.most))

    def _serve(self) -> None:
        for place, caller in [*self._waiting.items()]:
            if len(self._served) >= self.at_once:
                return
            if caller not in self._served.values() and not place.done():  # done: it has gone away
                self._served[place] = self._waiting.pop(place)
                place.set_result(None)

    async def _wait(self, place: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                await place
        except TimeoutError:
            raise self._refusal(None) from None


class PerCallerLimit:
    """Limit of `most` concurrent requests a name; `refusal` creates the error beyond it."""

    def __init__(self, most: int, refusal: Callable[[], ApiError]) -> None:
        self._most = most
        self._refusal = refusal
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def acquire(self, name: str) -> Iterator[None]:
        """Count a request of `name` while the block runs; raises the refusal beyond the limit."""
        if self._under_way[name] >= self._most:
            raise self._refusal()
        self._under_way[name] += 1
        try:
            yield
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]
