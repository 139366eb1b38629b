"""Outermost ASGI middleware: request id, body limit, log line, metrics, and no traceback outside.

Plain ASGI rather than Starlette's BaseHTTPMiddleware, which copies every body
through a queue. asgi-correlation-id and prometheus-fastapi-instrumentator would each
do a part; the former accepts any text as an id, the latter has no limit on methods,
and what they leave (the limit, the problem for an exception) is most of this file.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from footplate_api.errors import ApiError
from footplate_api.http.error_handlers import REQUEST_ID_HEADER, problem_response
from footplate_api.instruments import ApiMetrics
from footplate_contracts.logs import bind, log_fields

# 5000 rows, the most a batch holds, are 2 MB; the API server itself takes 3 MB.
BODY_LIMIT: Final = 8 * 1024 * 1024
# Anybody may send any word as a method; each would be a series for ever.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SAFE_ID: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_GONE: Final = 499  # in the log and the measurement, as nginx has it: nobody is there to be answered
_QUIET: Final = ("/healthz", "/readyz", "/metrics")  # probes and scrapes: logged at DEBUG only

# A fleet sends a thousand batches a second; what becomes of them is counted above, by status.
_TELEMETRY: Final = "/telemetry"

log = logging.getLogger("footplate_api.access")


class RequestEdge:
    """Outermost middleware of the application."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["footplate.request_id"] = request_id
        started = time.perf_counter()
        self._metrics.in_flight.inc()
        tracker = _Tracker(send, request_id)
        with bind(request=request_id):
            try:
                await self._app(scope, limited(scope, receive), tracker.send)
            except Exception as error:  # noqa: BLE001 - the edge: callers get a problem, the log the traceback
                await self._failed(error, scope, receive, tracker)
            finally:
                self._metrics.in_flight.dec()
                self._measure(scope, tracker.status, time.perf_counter() - started)

    async def _failed(self, error: Exception, scope: Scope, receive: Receive, tracker: _Tracker) -> None:
        if tracker.status:  # the answer has begun: all that is left is to break it off
            raise error
        if isinstance(error, ClientDisconnect):
            tracker.status = _GONE
            return
        if not isinstance(error, ApiError):
            log.exception("%s %s failed", scope["method"], scope["path"])
            error = ApiError("Unexpected error; the log of the API has its traceback under this request id.")
        await problem_response(error, tracker.request_id)(scope, receive, tracker.send)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        template = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, template, str(status)).inc()
        self._metrics.request_seconds.labels(method, template).observe(seconds)
        quiet = scope["path"] in _QUIET or scope["path"].endswith(_TELEMETRY)  # no route may be reached
        level = logging.DEBUG if quiet else logging.INFO
        about = log_fields(status=status, milliseconds=round(seconds * 1e3, 1))
        log.log(level, "%s %s", scope["method"], scope["path"], extra=about)


class _Tracker:
    """Wrapper of `send` that records the response's status and adds the request id."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0  # none yet

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID_HEADER] = self.request_id
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = dict(scope["headers"]).get(REQUEST_ID_HEADER.lower().encode(), b"").decode("latin-1")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex


def limited(scope: Scope, receive: Receive) -> Receive:
    """Return a `receive` that raises a 413 once more than BODY_LIMIT bytes are announced or received."""
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > BODY_LIMIT or (announced.isdigit() and int(announced) > BODY_LIMIT):
            # FastAPI makes any other exception from here a 400.
            raise HTTPException(413, f"the body must be at most {BODY_LIMIT} bytes")
        return message

    return counting
