"""Memory limits on telemetry requests, applied before a body is read.

A parsed row takes ten times the memory of its text. After an outage of ten minutes every coordinator of a
fleet has hundreds of rows, and sends them in the same second: the API reads as many as fit, lets some wait
with their bodies still on the sender's side of the connection, and refuses the others, which retry later.

A request that waits within the framework takes 33 KB there, whatever its body, and 20 KB before the router.
So requests with short bodies, of which a returning fleet sends a thousand in one second, wait before the
framework, and no more of them than can be served soon; of requests with long bodies no more reach the router
than have memory reserved or may wait for it.

The API trusts no sender to send the body that its Content-Length announces. A short body is admitted once all
of it has arrived: until then it is in the server's buffer, where it would be anyhow. A long body queues for
memory once some of it has arrived, and is rejected if it stalls while others wait; its sender's next batches
are then refused for a while. And each sender has a few batches in progress at most: a coordinator sends one
after the other, but a batch that it stopped waiting for may still be in progress here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from footplate_api.errors import TooBusy
from footplate_api.http import bodies
from footplate_api.http.body_timeouts import BodyDeadline, BodyTimeout, PendingBodies
from footplate_api.http.concurrency_limit import ConcurrencyLimit, PerCallerLimit, refusals
from footplate_api.identity.authentication_middleware import CALLER
from footplate_api.identity.caller import Caller
from footplate_api.identity.rate_limits import is_telemetry
from footplate_api.telemetry.penalty_box import PenaltyBox

TELEMETRY_LIMIT: Final = 8 * 1024 * 1024  # bytes; 5000 rows, the most that a batch holds, are 3 MB
LARGE_BYTES: Final = 64 * 1024  # a body that is longer waits for other long ones only
OF_ONE_SENDER: Final = 4  # batches
AT_ONCE: Final = 64  # requests with short bodies, of which one commit may store all
WAITING: Final = 256  # of these, for their turn: more than a second's of 2,000 senders (metrics.pace)
COMING: Final = 2000  # of these, whose bodies are on their way
# Requests with long bodies: of the shortest of them 95 have room, so that some wait wherever these are all.
LONG_AT_ONCE: Final = 192
BEGINNING: Final = 96  # of these, of which nothing has come yet
UNKNOWN_AT_ONCE: Final = 8  # requests that do not say how long their bodies are
LATE_SECONDS: Final = 30.0  # for which a sender whose long body did not come has no other one taken
WAIT_SECONDS: Final = 10.0  # for a turn, and for room; a coordinator waits for an answer for thirty
_refusal: Final = refusals(
    TooBusy,
    slow="Batches are stored too slowly; send this batch again later.",
    full="{} batches wait already; send this batch again later.",
)


class ByteReservation:
    """Bytes that one body has reserved in a `ByteLimit`."""

    def __init__(self) -> None:
        self._wanted = False
        self._tell: Callable[[], None] | None = None

    def on_contention(self, tell: Callable[[], None]) -> None:
        """Call `tell` once others wait for memory, which may be at once."""
        self._tell = tell
        if self._wanted:
            tell()

    def notify_contention(self) -> None:
        """Run the callback: others wait for memory."""
        self._wanted = True
        if self._tell is not None:
            self._tell()


@dataclass
class ByteLimit:
    """Limit of `capacity` bytes of bodies; further requests queue in order, for `seconds` at most."""

    capacity: int
    seconds: float = WAIT_SECONDS
    used: int = 0
    _inside: set[ByteReservation] = field(default_factory=set)
    _line: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[ByteReservation]:
        """Reserve `size` bytes while the block runs; raises TooBusy after waiting too long.

        A body larger than the capacity reserves all of it.
        """
        size = min(size, self.capacity)
        await self._enter(size)
        place = ByteReservation()
        self._inside.add(place)
        if self._line:
            place.notify_contention()
        try:
            yield place
        finally:
            self._inside.remove(place)
            self.used -= size
            self._admit()

    async def _enter(self, size: int) -> None:
        if not self._line and self.used + size <= self.capacity:
            self.used += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((size, turn))
        for place in self._inside:
            place.notify_contention()
        try:
            async with asyncio.timeout(self.seconds):
                await self._let_in(size, turn)
        except TimeoutError:
            raise _refusal(None) from None

    async def _let_in(self, size: int, turn: asyncio.Future[None]) -> None:
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
    """Return whether a body of `size` bytes is short; None, an unknown length, is not."""
    return size is not None and size <= LARGE_BYTES


@dataclass
class BodyMemoryLimits:
    """Memory limits of telemetry bodies, short and long ones apart.

    A run's batches during training do not wait for what others send after an outage. 16,384 rows under both
    limits are 80 MB once they are parsed. A body of unknown length is read before it reserves memory, one at
    a time: as text it takes a tenth of that.
    """

    small: ByteLimit = field(default_factory=lambda: ByteLimit(capacity=2 * 1024 * 1024))
    large: ByteLimit = field(default_factory=lambda: ByteLimit(capacity=6 * 1024 * 1024))
    unknown: ByteLimit = field(default_factory=lambda: ByteLimit(capacity=1))
    beginning: PendingBodies = field(default_factory=lambda: PendingBodies(BEGINNING))
    beginning_unknown: PendingBodies = field(default_factory=lambda: PendingBodies(UNKNOWN_AT_ONCE // 2))
    late: PenaltyBox = field(default_factory=lambda: PenaltyBox(LATE_SECONDS))

    @asynccontextmanager
    async def body(self, request: Request, body_timeout: BodyTimeout) -> AsyncIterator[bytes]:
        """Read the body of `request`, and hold its memory while the block runs.

        Raises TooBusy, Invalid, or a 408 or 413.
        """
        size, body = bodies.announced(request), bodies.Body(request, TELEMETRY_LIMIT)
        arrival = BodyDeadline(body_timeout)
        async with AsyncExitStack() as stack:
            if not is_short(size):
                caller: Caller = request.scope[CALLER]
                stack.enter_context(self.late.guard(caller.sender_id))
                beginning = self.beginning_unknown if size is None else self.beginning
                await beginning.wait(arrival, body.begin(arrival))
            if size is None:
                async with self.unknown.reserve(1) as place:
                    text = await _read(body, place, arrival)
                    await stack.enter_async_context(self.large.reserve(len(text)))
            else:
                place = await stack.enter_async_context(self.limit_for(size).reserve(size))
                text = await _read(body, place, arrival)
            yield text

    def limit_for(self, size: int) -> ByteLimit:
        """Return the limit for a body of `size` bytes."""
        return self.small if is_short(size) else self.large


async def _read(body: bodies.Body, room: ByteReservation, arrival: BodyDeadline) -> bytes:
    arrival.restart()
    room.on_contention(arrival.shorten)
    return await body.read(arrival)


class TelemetryAdmissionMiddleware:
    """ASGI middleware before the router in which batches of telemetry wait."""

    def __init__(
        self, app: ASGIApp, body_timeout: BodyTimeout, at_once: int = AT_ONCE, seconds: float = WAIT_SECONDS
    ) -> None:
        self._app = app
        self._body_timeout = body_timeout
        self._shares = PerCallerLimit(OF_ONE_SENDER, _too_many)
        self._coming = PendingBodies(COMING)
        self._short = ConcurrencyLimit(at_once, WAITING, seconds, _refusal)
        self._long = ConcurrencyLimit(LONG_AT_ONCE, 0, seconds, lambda _: _refusal(LONG_AT_ONCE))
        self._unknown = ConcurrencyLimit(UNKNOWN_AT_ONCE, 0, seconds, lambda _: _refusal(UNKNOWN_AT_ONCE))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_telemetry(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        caller: Caller = scope[CALLER]
        size = bodies.announced(Request(scope))
        with self._shares.acquire(caller.sender_id):
            turns = self._turns(size)
            turns.check()
            if is_short(size):
                receive = await self._whole(receive)
            async with turns.acquire():
                await self._app(scope, receive, send)

    def _turns(self, size: int | None) -> ConcurrencyLimit:
        if size is None:
            return self._unknown
        return self._short if is_short(size) else self._long

    async def _whole(self, receive: Receive) -> Receive:
        """Wait for the whole body; return a `receive` that yields it as one message, then what follows."""
        arrival = BodyDeadline(self._body_timeout)
        left = [await self._coming.wait(arrival, _gathered(arrival, receive))]

        async def again() -> Message:
            return left.pop() if left else await receive()

        return again


async def _gathered(arrival: BodyDeadline, receive: Receive) -> Message:
    """Return the parts of a body as one message; raises ClientDisconnect."""
    body, more = bytearray(), True
    while more:
        message = await arrival.wait_for(receive())
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, more = message.get("body", b""), message.get("more_body", False)
        arrival.add_received(len(part))
        body += part
    return {"type": "http.request", "body": bytes(body), "more_body": False}


def _too_many() -> TooBusy:
    return TooBusy(f"{OF_ONE_SENDER} batches of this sender are in progress; send this batch again later.")
