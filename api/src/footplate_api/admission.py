"""How much telemetry is held in memory at once: decided before a body is read.

A parsed row takes ten times the room of its text. After an outage of ten minutes every coordinator of a
fleet has hundreds of rows, and sends them in the same second: those that there is room for are read, some
wait with their bodies still on their side of the connection, and the others are told to come back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from footplate_api.errors import TooBusy

LARGE_BYTES: Final = 64 * 1024  # a body that is longer waits for other long ones only


@dataclass
class Lane:
    """Room for `capacity` bytes of bodies; beyond it at most `waiting` requests queue, in order."""

    capacity: int
    waiting: int
    used: int = 0
    _line: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)

    @asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[None]:
        """Room for a body of `size` bytes for as long as the block takes; raises TooBusy where too many wait.

        One that is larger than all there is has it for itself.
        """
        size = min(size, self.capacity)
        await self._enter(size)
        try:
            yield
        finally:
            self.used -= size
            self._admit()

    async def _enter(self, size: int) -> None:
        if not self._line and self.used + size <= self.capacity:
            self.used += size
            return
        if len(self._line) >= self.waiting:
            raise TooBusy(f"{len(self._line)} batches wait already; send this one again later.")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was let in, and is gone
                self.used -= size
            self._admit()
            raise

    def _admit(self) -> None:
        while self._line:
            size, turn = self._line[0]
            if turn.done():
                self._line.popleft()
                continue
            if self.used + size > self.capacity:
                return
            self._line.popleft()
            self.used += size
            turn.set_result(None)


@dataclass
class Admission:
    """Two lanes: what a run sends while it trains is not held up by what others bring after an outage.

    16,384 rows of both lanes are 80 MB once they are parsed.
    """

    small: Lane = field(default_factory=lambda: Lane(capacity=2 * 1024 * 1024, waiting=2000))
    large: Lane = field(default_factory=lambda: Lane(capacity=6 * 1024 * 1024, waiting=64))

    def lane(self, size: int | None) -> Lane:
        """For a body of `size` bytes; None: its sender does not say how long it is."""
        return self.small if size is not None and size <= LARGE_BYTES else self.large
