"""Handlers that turn errors into responses."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from footplate_api.errors import ApiError, HttpError
from footplate_api.http.problems import MEDIA_TYPE, invalid, problem

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-Id"


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
