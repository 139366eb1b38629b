"""Bodies that are on their way, and for how long they are waited for.

Who is waited for holds something that others wait for: so a silence may be shorter once others do, and of too
many of which nothing comes the oldest makes room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from footplate_api.errors import HttpError

HURRIED_SECONDS: Final = 2.0  # without a byte, where others wait for the room that a body has

Part = TypeVar("Part")


@dataclass(frozen=True)
class Patience:
    """For how long a body is waited for.

    `seconds` without a byte are too many, and so is a trickle that is slower than `least` bytes a second.
    """

    seconds: float = 30.0
    least: float = 32 * 1024

    def deadline(self, began: float, last: float, received: int) -> float:
        """By when more must have come of a body of which `received` bytes have, the newest of them at `last`.

        >>> patience = Patience(seconds=10, least=100)
        >>> patience.deadline(began=0, last=0, received=0), patience.deadline(began=0, last=1, received=900)
        (10, 11)
        >>> patience.deadline(began=0, last=19, received=950)
        19.5
        """
        return min(last + self.seconds, began + self.seconds + received / self.least)


class Arrival:
    """How far a body has come, and by when more of it must have."""

    def __init__(self, patience: Patience) -> None:
        self._unhurried = self._patience = patience
        self._clock = asyncio.get_running_loop().time
        self._began = self._last = self._clock()
        self._before = 0  # bytes that had come by then
        self._received = 0
        self._why = _for(patience)
        self._limit: asyncio.Timeout | None = None  # of the part that is waited for

    def hurry(self, seconds: float = HURRIED_SECONDS) -> None:
        """Others wait for what this body holds: its silence may be no longer than `seconds` until `resume`.

        That which has been counts.
        """
        if seconds < self._patience.seconds:
            self._patience = replace(self._patience, seconds=seconds)
            self._why = "while others waited"
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self._deadline())

    def resume(self) -> None:
        """The body was not read for a while: from now on it has to come on, as if nobody had waited."""
        self._patience, self._why = self._unhurried, _for(self._unhurried)
        self._began = self._last = self._clock()
        self._before = self._received

    async def part(self, coming: Awaitable[Part]) -> Part:
        """What is `coming`; raises a 408 where that takes too long."""
        try:
            async with asyncio.timeout_at(self._deadline()) as self._limit:
                found = await coming
        except TimeoutError:
            raise self._too_slow() from None
        finally:
            self._limit = None
        self._last = self._clock()
        return found

    def took(self, size: int) -> None:
        """So many bytes came with the last part."""
        self._received += size

    def _deadline(self) -> float:
        return self._patience.deadline(self._began, self._last, self._received - self._before)

    def _too_slow(self) -> HttpError:
        said = f"{self._received} bytes of the body came, and then too little {self._why}"
        error = HttpError(said, status=408)
        error.headers = {"Connection": "close"}  # the rest may come yet, and would be taken for a request
        return error


def _for(patience: Patience) -> str:
    return f"for {patience.seconds:g} seconds"


class Arrivals:
    """Bodies that hold no room yet, as too little of them has come: `most` at once.

    Beyond half of that newcomers are waited for no longer than `HURRIED_SECONDS`, and beyond all of it the
    oldest is given up: whoever sends what it announced is not refused for those who do not.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Arrival, None] = {}  # the oldest first

    async def wait(self, arrival: Arrival, coming: Awaitable[Part]) -> Part:
        """What is `coming` of a body, which `arrival` times; raises a 408 where it is given up."""
        self._waiting[arrival] = None
        if len(self._waiting) > self._most // 2:
            arrival.hurry()
        if len(self._waiting) > self._most:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.hurry(0.0)
        try:
            return await coming
        finally:
            self._waiting.pop(arrival, None)

    def __len__(self) -> int:
        return len(self._waiting)
