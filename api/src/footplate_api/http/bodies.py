"""Request bodies: read only after the caller is authorized, and parsed off the event loop.

FastAPI reads and parses a body before its dependencies run, in the loop: a sender of eight megabytes would
hold up everybody, authorized or not. So routes read their bodies through this module, and declare them
in OpenAPI by `openapi_request_body`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from footplate_api.errors import Invalid
from footplate_api.http.body_timeouts import BodyDeadline, BodyTimeout

Parsed = TypeVar("Parsed")

_SCHEMAS: Final = "#/components/schemas/"
_JSON: Final = ("application/json", "+json")
_models: set[type[BaseModel]] = set()


def openapi_request_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route whose body is a `model`."""
    _models.add(model)
    content = {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{model.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}}


def schemas() -> dict[str, Any]:
    """Return the schemas to which `openapi_request_body` refers, by name."""
    asked = [(model, "validation") for model in sorted(_models, key=lambda model: model.__name__)]
    _, definitions = models_json_schema(asked, ref_template=f"{_SCHEMAS}{{model}}")  # type: ignore[arg-type]  # a list of literals
    found: dict[str, Any] = definitions["$defs"]
    return found


def announced(request: Request) -> int | None:
    """Return the Content-Length; None of a chunked body."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else None


class Body:
    """JSON body of `request`, of at most `limit` bytes, read in one or two calls.

    Raises Invalid, or a 413, and what `arrival` raises of a body that does not arrive.
    """

    def __init__(self, request: Request, limit: int) -> None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.endswith(_JSON):
            raise Invalid.field(
                "body",
                kind or "no Content-Type",
                "must be JSON, sent with the header Content-Type: application/json",
            )
        self._limit = limit
        self._coming = aiter(request.stream())
        self._parts: list[bytes] = []
        self._size = 0
        self._bound(announced(request) or 0)

    async def begin(self, arrival: BodyDeadline) -> None:
        """Read the first part, which is all of a short body."""
        await self._part(arrival)

    async def read(self, arrival: BodyDeadline) -> bytes:
        """Read the rest; return the whole body."""
        while await self._part(arrival):
            pass
        return b"".join(self._parts)

    async def _part(self, arrival: BodyDeadline) -> bool:
        part = await arrival.wait_for(anext(self._coming, None))
        if part is None:
            return False
        arrival.add_received(len(part))
        self._size += len(part)
        self._bound(self._size)
        self._parts.append(part)
        return True

    def _bound(self, size: int) -> None:
        if size > self._limit:
            raise HTTPException(413, f"the body must be at most {self._limit} bytes")


async def read(request: Request, limit: int, body_timeout: BodyTimeout) -> bytes:
    """Return the JSON body of at most `limit` bytes; raises Invalid, or a 408 or 413."""
    return await Body(request, limit).read(BodyDeadline(body_timeout))


async def parsed(body: bytes, parse: Callable[[bytes], Parsed]) -> Parsed:
    """Return `parse(body)`, computed in a thread."""
    return await asyncio.to_thread(parse, body)
