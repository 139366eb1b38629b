"""FastAPI dependencies of routes, and handlers that turn errors into responses.

Authentication and authorization come before (identity/): the gate surrounds the router, and a route's rights
are its first dependencies.

The sessions in which routes read come from here; the clock is the context's. One task writes telemetry
(background.ingest), and answers once it is committed. A route that calls Kubernetes before it writes
(runs.service.submit) opens a transaction of its own after the response: a writer's lock is not held through a
wait. A long history (HistoryService.read) is written as JSON after its session is released.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from footplate_api import bodies
from footplate_api.context import Context
from footplate_api.database import ReadSession
from footplate_api.errors import ApiError, HttpError
from footplate_api.problems import MEDIA_TYPE, invalid, problem

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-Id"
RUN_LIMIT: Final = 3 * 1024 * 1024  # what the Kubernetes API server itself takes


def context(request: Request) -> Context:
    """Return the context of the application that serves `request`."""
    found: Context = request.app.state.context
    return found


Contextual = Annotated[Context, Depends(context)]


async def _read(context: Contextual) -> AsyncIterator[ReadSession]:
    async with context.database.read() as session:
        yield session


async def _run_body(request: Request, context: Contextual) -> bytes:
    return await bodies.read(request, RUN_LIMIT, context.patience)


RunBody = Annotated[bytes, Depends(_run_body)]

# Scope "function": the session is given back before the answer is sent.
Reading = Annotated[ReadSession, Depends(_read, scope="function")]


def problem_response(error: ApiError, request_id: str) -> JSONResponse:
    """Return `error` as a problem+json response."""
    headers = {REQUEST_ID_HEADER: request_id, **error.headers}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return JSONResponse(
        problem(error, request_id), status_code=error.status, media_type=MEDIA_TYPE, headers=headers
    )


def request_id(request: Request) -> str:
    """Return the id that the middleware assigned to this request."""
    return str(request.scope.get("footplate.request_id", ""))


async def _on_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    if error.status >= 500:
        log.warning("%s %r", error.detail, error.__cause__)
    return problem_response(error, request_id(request))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem_response(invalid(error.errors()), request_id(request))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}: {error.detail}"
    response = problem_response(HttpError(detail, status=error.status_code), request_id(request))
    response.headers.update(error.headers or {})
    if error.status_code == 405:  # the router's own header names the verbs of one route of several
        response.headers["Allow"] = ", ".join(allowed_methods(request))
    return response


def allowed_methods(request: Request) -> list[str]:
    """Return the HTTP methods that the path of `request` has."""
    routes = request.app.router.routes
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def install_error_handlers(app: FastAPI) -> None:
    """Register handlers that answer every error of `app` with a problem."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
