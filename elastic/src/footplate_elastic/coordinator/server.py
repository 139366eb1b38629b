"""The HTTP edge of the coordinator: decode, hand in, wait for news, encode.

One event loop, so there are no locks: an event is handed in and answered
without an await in between, and only then does a long-poll wait.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import web
from pydantic import ValidationError

from footplate_contracts.directives import Directives
from footplate_contracts.model import Report
from footplate_contracts.reports import (
    AgentIdentity,
    DiagnosisRequest,
    GrantRequest,
    Heartbeat,
    HeartbeatAnswer,
    JoinRequest,
    SealedGeneration,
)
from footplate_elastic.coordinator import timing
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.protocol import wire
from footplate_elastic.protocol.wire import Refusal

_log = logging.getLogger(__name__)

LONGEST_WAIT: Final = 60.0
_BODY_LIMIT: Final = 64 * 1024 * 1024  # an outbox of some thousand rows beside the members

Message = TypeVar("Message", bound=Report)
Value = TypeVar("Value")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ChangeNotifier:
    """Wakes everybody who waits for a change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Something has changed."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait_for(self, look: Callable[[], Value | None], seconds: float) -> Value | None:
        """The first value other than None that `look` gives, or None after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while (value := look()) is None:
                    await self._event.wait()
                return value
        except TimeoutError:
            return None


class Server:
    """Routes of one coordinator."""

    def __init__(
        self,
        coordinator: Coordinator,
        token: str,
        queued: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.coordinator = coordinator
        self.changes = ChangeNotifier()
        self._token = token
        self._queued = queued
        self._clock = clock
        self._version = coordinator.version
        self._ending = asyncio.Event()

    def application(self) -> web.Application:
        """The routes with authentication and error translation around them."""
        app = web.Application(middlewares=[self._edge], client_max_size=_BODY_LIMIT)
        app.add_routes(
            [
                web.post(wire.JOIN, self.join),
                web.post(wire.HEARTBEAT, self.heartbeat),
                web.get(wire.CONNECTION, self.connection),
                web.post(wire.LEAVE, self.leave),
                web.post(wire.GRANT, self.grant),
                web.get(wire.STATE, self.state),
                web.put(wire.DIRECTIVES, self.directives),
                web.post(wire.DIAGNOSE, self.diagnose),
                web.get(wire.HEALTH, self.health),
            ]
        )
        return app

    async def keep_time(self) -> None:
        """Tick until cancelled."""
        while True:
            self.coordinator.tick(self._clock())
            self._tell()
            await asyncio.sleep(timing.TICK)

    def end(self) -> None:
        """Let go of the idle connections; from here on their end says nothing."""
        self._ending.set()

    # -- routes ------------------------------------------------------------------------

    async def join(self, request: web.Request) -> web.StreamResponse:
        """SealedGeneration; 202 when the wait was too long (ask again); 409 when turned away."""
        message = await _read(request, JoinRequest)
        refusal = self.coordinator.join(message, self._clock())
        self._tell()
        if refusal is not None:
            return _refused(refusal)

        def look() -> SealedGeneration | Refusal | None:
            return self.coordinator.sealed_for(message) or self.coordinator.turned_away(message.agent)

        found = await self.changes.wait_for(look, wire.JOIN_SECONDS)
        if isinstance(found, Refusal):
            return _refused(found)
        return _json(found) if isinstance(found, SealedGeneration) else web.Response(status=202)

    async def heartbeat(self, request: web.Request) -> web.StreamResponse:
        """HeartbeatAnswer; waits `wait` seconds while it would say what `known` already says."""
        message = await _read(request, Heartbeat)
        self.coordinator.heartbeat(message, self._clock())
        self._tell()
        self._queued()
        known = request.query.get("known", "")

        def look() -> HeartbeatAnswer | None:
            answer = self.coordinator.answer(message.agent)
            return answer if wire.known(answer) != known else None

        seconds = min(_seconds(request, "wait"), self.coordinator.longest_wait(message.agent))
        found = await self.changes.wait_for(look, seconds) if seconds > 0 else None
        return _json(found or self.coordinator.answer(message.agent))

    async def connection(self, request: web.Request) -> web.StreamResponse:
        """Stays open and silent: its end says that the agent's process is gone."""
        agent = _agent(request)
        refusal = self.coordinator.connect(agent, self._clock())
        self._tell()
        if refusal is not None:
            return _refused(refusal)
        response = web.StreamResponse(headers=self._headers())
        try:
            await response.prepare(request)
            await self._ending.wait()
        finally:
            if not self._ending.is_set():
                self.coordinator.disconnect(agent, self._clock())
                self._tell()
        return response

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """The agent ends by request."""
        self.coordinator.leave(await _read(request, AgentIdentity), self._clock())
        self._tell()
        return web.Response(status=204)

    async def grant(self, request: web.Request) -> web.StreamResponse:
        """Grant; 503 while a replaced coordinator does not know the newest generation."""
        grant = self.coordinator.grant(await _read(request, GrantRequest))
        return _json(grant) if grant is not None else web.Response(status=503)

    async def state(self, request: web.Request) -> web.StreamResponse:
        """CoordinatorState as soon as its version is above `after`, or after `wait` seconds."""
        after = int(request.query.get("after", "0"))

        def look() -> bool | None:
            return True if self.coordinator.version > after else None

        await self.changes.wait_for(look, min(_seconds(request, "wait"), LONGEST_WAIT))
        return _json(self.coordinator.view())

    async def directives(self, request: web.Request) -> web.StreamResponse:
        """How the operator wants the gang from now on; answers with the CoordinatorState after it."""
        self.coordinator.direct(await _read(request, Directives), self._clock())
        self._tell()
        return _json(self.coordinator.view())

    async def diagnose(self, request: web.Request) -> web.StreamResponse:
        """Pass the question on to all agents; answers with its Diagnosis."""
        diagnosis = self.coordinator.diagnose(await _read(request, DiagnosisRequest))
        self._tell()
        return _json(diagnosis)

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Alive."""
        return web.Response(text="ok\n")

    # -- particulars -------------------------------------------------------------------

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != wire.HEALTH and not self._allowed(request):
            return _error(401, "the bearer token is not this run's")
        try:
            response = await handler(request)
        except (ValidationError, ValueError) as error:
            return _error(400, str(error))
        if not response.prepared:
            response.headers.update(self._headers())
        return response

    def _headers(self) -> dict[str, str]:
        return {wire.EPOCH_HEADER: str(self.coordinator.state.epoch)}

    def _allowed(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        sent = given.encode(errors="surrogateescape")  # a header may hold any bytes
        return not self._token or hmac.compare_digest(sent, f"Bearer {self._token}".encode())

    def _tell(self) -> None:
        if self.coordinator.version != self._version:
            self._version = self.coordinator.version
            self.changes.tell()


async def _read(request: web.Request, kind: type[Message]) -> Message:
    return kind.model_validate_json(await request.read())


def _agent(request: web.Request) -> AgentIdentity:
    return AgentIdentity.from_json(json.loads(request.query.get("agent", "{}")))


def _seconds(request: web.Request, name: str) -> float:
    return max(0.0, float(request.query.get(name, "0")))


def _json(message: Report) -> web.Response:
    body = message.model_dump_json(by_alias=True, exclude_none=True)
    return web.Response(text=body, content_type="application/json")


def _refused(refusal: Refusal) -> web.Response:
    return _error(409, refusal.value)


def _error(status: int, reason: str) -> web.Response:
    return web.json_response({"reason": reason}, status=status)
