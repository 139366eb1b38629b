"""How much telemetry is held in memory at once: decided before a body is read.

A parsed row takes ten times the room of its text. After an outage of ten minutes every coordinator of a
fleet has hundreds of rows, and sends them in the same second: those that there is room for are read, some
wait with their bodies still on their side of the connection, and the others are told to come back.

A request that waits within the framework holds 33 KB there, whatever its body. So those with short bodies,
of which a fleet has a thousand under way on a machine that is busy, wait before the router.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from footplate_api import bodies
from footplate_api.errors import TooBusy
from footplate_api.identity.rates import sends_telemetry
from footplate_api.turns import Turns

LARGE_BYTES: Final = 64 * 1024  # a body that is longer waits for other long ones only
AT_ONCE: Final = 64  # requests with short bodies, of which one commit may store all
WAITING: Final = 2000
WAIT_SECONDS: Final = 10.0


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


def is_short(size: int | None) -> bool:
    """Whether a body is short, of `size` bytes; None: its sender does not say how long it is."""
    return size is not None and size <= LARGE_BYTES


@dataclass
class Admission:
    """Two lanes: what a run sends while it trains is not held up by what others bring after an outage.

    16,384 rows of both lanes are 80 MB once they are parsed.
    """

    small: Lane = field(default_factory=lambda: Lane(capacity=2 * 1024 * 1024, waiting=AT_ONCE))
    large: Lane = field(default_factory=lambda: Lane(capacity=6 * 1024 * 1024, waiting=64))

    def lane(self, size: int | None) -> Lane:
        """For a body of `size` bytes; None: its sender does not say how long it is."""
        return self.small if is_short(size) else self.large


class AdmissionGate:
    """The layer before the router in which short batches wait for their turn."""

    def __init__(self, app: ASGIApp, turns: Turns | None = None) -> None:
        self._app = app
        self._turns = turns or Turns(AT_ONCE, WAITING, WAIT_SECONDS, _refusal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_short_batch(scope):
            await self._app(scope, receive, send)
            return
        async with self._turns.turn():
            await self._app(scope, receive, send)


def _is_short_batch(scope: Scope) -> bool:
    if scope["type"] != "http" or not sends_telemetry(scope["method"], scope["path"]):
        return False
    return is_short(bodies.announced(Request(scope)))


def _refusal(waiting: int | None) -> TooBusy:
    if waiting is None:
        return TooBusy("Batches are stored too slowly; send this one again later.")
    return TooBusy(f"{waiting} batches wait already; send this one again later.")
