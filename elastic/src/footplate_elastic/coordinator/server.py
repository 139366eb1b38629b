"""The coordinator's HTTP edge: decodes requests, calls the service, encodes responses."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import web
from pydantic import ValidationError

from footplate_contracts.base import WireMessage
from footplate_contracts.diagnosis import DiagnosisRequest
from footplate_contracts.directives import Directives
from footplate_contracts.rendezvous import (
    AgentIdentity,
    GrantRequest,
    Heartbeat,
    JoinRequest,
    LeaveRequest,
    SealedGeneration,
)
from footplate_elastic.coordinator.service import Service
from footplate_elastic.protocol import wire
from footplate_elastic.protocol.wire import AgentRefusal

# Of 4096 members with the longest names and a thousand of the largest rows there are some 10 MB.
BODY_LIMIT: Final = 16 * 1024 * 1024
# Of a sealed generation, of which each member waits for 276 kB where there are 1,024: more is written only
# once that is sent.
PART: Final = 16 * 1024

Message = TypeVar("Message", bound=WireMessage)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Routes of one coordinator."""

    def __init__(self, service: Service, token: str) -> None:
        self.service = service
        self._token = token
        self._ending = asyncio.Event()
        self._encoded: tuple[SealedGeneration, bytes] | None = None  # the newest that was sent

    def application(self) -> web.Application:
        """Return the routes with authentication and error translation around them."""
        app = web.Application(middlewares=[self._edge], client_max_size=BODY_LIMIT)
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

    def end(self) -> None:
        """Release the idle connections; from here on their end means nothing."""
        self._ending.set()

    # -- routes ------------------------------------------------------------------------

    async def join(self, request: web.Request) -> web.StreamResponse:
        """Answer with a SealedGeneration; 202 when the wait was too long (retry); 409 when turned away."""
        found = await self.service.join(await _read(request, JoinRequest))
        if isinstance(found, AgentRefusal):
            return _refused(found)
        return await self._send(request, found) if found is not None else web.Response(status=202)

    async def heartbeat(self, request: web.Request) -> web.StreamResponse:
        """Answer with a HeartbeatResponse; wait up to `wait` seconds while it would equal `known`."""
        word, known = await _read(request, Heartbeat), request.query.get("known", "")
        return _json(await self.service.heartbeat(word, known, _seconds(request, "wait")))

    async def connection(self, request: web.Request) -> web.StreamResponse:
        """Hold the connection open and silent: its end shows that the agent's process is gone.

        A connection that ended before we came to it only shows that the agent did not wait so long.
        """
        if request.transport is None or request.transport.is_closing():
            return web.Response(status=204)
        agent = _agent(request)
        refusal = self.service.connect(agent)
        if refusal is not None:
            return _refused(refusal)
        response = web.StreamResponse(headers=self._headers())
        try:
            await response.prepare(request)
            await self._ending.wait()
        finally:
            if not self._ending.is_set():
                self.service.disconnect(agent)
        return response

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """Process the departure of an agent that ends by request."""
        self.service.leave(await _read(request, LeaveRequest))
        return web.Response(status=204)

    async def grant(self, request: web.Request) -> web.StreamResponse:
        """Answer with a Grant; 503 while a replaced coordinator does not know the newest generation."""
        grant = self.service.grant(await _read(request, GrantRequest))
        return _json(grant) if grant is not None else web.Response(status=503)

    async def state(self, request: web.Request) -> web.StreamResponse:
        """Answer with the CoordinatorState once its version is above `after`, or after `wait` seconds."""
        after = int(request.query.get("after", "0"))
        return _json(await self.service.state(after, _seconds(request, "wait")))

    async def directives(self, request: web.Request) -> web.StreamResponse:
        """Apply the operator's directives; answer with the CoordinatorState after it."""
        return _json(self.service.set_directives(await _read(request, Directives)))

    async def diagnose(self, request: web.Request) -> web.StreamResponse:
        """Forward the request to all agents; answer with its Diagnosis."""
        return _json(self.service.diagnose(await _read(request, DiagnosisRequest)))

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Answer 200: the process is alive."""
        return web.Response(text="ok\n")

    # -- particulars -------------------------------------------------------------------

    async def _send(self, request: web.Request, sealed: SealedGeneration) -> web.StreamResponse:
        """Answer with `sealed`, which is encoded once for all members, in parts."""
        if self._encoded is None or self._encoded[0] is not sealed:
            self._encoded = sealed, _encoded(sealed).encode()
        body = memoryview(self._encoded[1])
        response = web.StreamResponse(headers=self._headers())
        response.content_type, response.content_length = "application/json", len(body)
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=PART)
        await response.prepare(request)
        for start in range(0, len(body), PART):
            await response.write(body[start : start + PART])
        await response.write_eof()
        return response

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
        return {wire.EPOCH_HEADER: str(self.service.epoch)}

    def _allowed(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        sent = given.encode(errors="surrogateescape")  # a header may hold any bytes
        return not self._token or hmac.compare_digest(sent, f"Bearer {self._token}".encode())


async def _read(request: web.Request, kind: type[Message]) -> Message:
    return kind.model_validate_json(await request.read())


def _agent(request: web.Request) -> AgentIdentity:
    return AgentIdentity.from_json(json.loads(request.query.get("agent", "{}")))


def _seconds(request: web.Request, name: str) -> float:
    return max(0.0, float(request.query.get(name, "0")))


def _json(message: WireMessage) -> web.Response:
    return web.Response(text=_encoded(message), content_type="application/json")


def _encoded(message: WireMessage) -> str:
    return message.model_dump_json(by_alias=True, exclude_none=True)


def _refused(refusal: AgentRefusal) -> web.Response:
    return _error(409, refusal.value)


def _error(status: int, reason: str) -> web.Response:
    return web.json_response({"reason": reason}, status=status)
