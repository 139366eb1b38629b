"""Read timeouts of request bodies that are in flight.

Each pending body holds something that others wait for: so its timeout may be shorter once others do, and
where too many bodies have sent nothing, the oldest is rejected.
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
class BodyTimeout:
    """Read timeout of a request body.

    A body times out after `seconds` without a byte, or if it is slower than `least` bytes a second.
    """

    seconds: float = 30.0
    least: float = 32 * 1024

    def deadline(self, began: float, last: float, received: int) -> float:
        """Return when a body times out of which `received` bytes have come, the newest of them at `last`.

        >>> timeout = BodyTimeout(seconds=10, least=100)
        >>> timeout.deadline(began=0, last=0, received=0), timeout.deadline(began=0, last=1, received=900)
        (10, 11)
        >>> timeout.deadline(began=0, last=19, received=950)
        19.5
        """
        return min(last + self.seconds, began + self.seconds + received / self.least)


class BodyDeadline:
    """Progress and deadline of one request body."""

    def __init__(self, body_timeout: BodyTimeout) -> None:
        self._unhurried = self._body_timeout = body_timeout
        self._clock = asyncio.get_running_loop().time
        self._began = self._last = self._clock()
        self._before = 0  # bytes that had come by then
        self._received = 0
        self._why = _for(body_timeout)
        self._limit: asyncio.Timeout | None = None  # of the part that is waited for

    def shorten(self, seconds: float = HURRIED_SECONDS) -> None:
        """Limit the silence of the body to `seconds` until `restart`, as others wait for what it holds.

        The silence so far counts.
        """
        if seconds < self._body_timeout.seconds:
            self._body_timeout = replace(self._body_timeout, seconds=seconds)
            self._why = "while others waited"
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self._deadline())

    def restart(self) -> None:
        """Restart the timers with the original timeout, after a while in which nobody read the body."""
        self._body_timeout, self._why = self._unhurried, _for(self._unhurried)
        self._began = self._last = self._clock()
        self._before = self._received

    async def wait_for(self, coming: Awaitable[Part]) -> Part:
        """Return the result of `coming`; raises a 408 after the deadline."""
        try:
            async with asyncio.timeout_at(self._deadline()) as self._limit:
                found = await coming
        except TimeoutError:
            raise self._too_slow() from None
        finally:
            self._limit = None
        self._last = self._clock()
        return found

    def add_received(self, size: int) -> None:
        """Add `size`, the bytes of the last part."""
        self._received += size

    def _deadline(self) -> float:
        return self._body_timeout.deadline(self._began, self._last, self._received - self._before)

    def _too_slow(self) -> HttpError:
        said = f"the body is too slow: {self._received} bytes arrived, then too few {self._why}"
        error = HttpError(said, status=408)
        error.headers = {"Connection": "close"}  # the rest may come yet, and would be taken for a request
        return error


def _for(body_timeout: BodyTimeout) -> str:
    return f"for {body_timeout.seconds:g} seconds"


class PendingBodies:
    """Bodies without reserved memory, as too little of them has arrived: `most` at once.

    Beyond half of that, new bodies time out after `HURRIED_SECONDS` of silence, and beyond all of it the
    oldest is rejected: a sender whose body arrives is not refused for senders whose bodies do not.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[BodyDeadline, None] = {}  # the oldest first

    async def wait(self, arrival: BodyDeadline, coming: Awaitable[Part]) -> Part:
        """Return the result of `coming`, timed by `arrival`; raises a 408 once the body is rejected."""
        self._waiting[arrival] = None
        if len(self._waiting) > self._most // 2:
            arrival.shorten()
        if len(self._waiting) > self._most:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.shorten(0.0)
        try:
            return await coming
        finally:
            self._waiting.pop(arrival, None)

    def __len__(self) -> int:
        return len(self._waiting)
