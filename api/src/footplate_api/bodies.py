"""Bodies of requests: read only once it is known that they may come, and parsed off the event loop.

FastAPI reads and parses a body before anything else is asked, in the loop: whoever sends
eight megabytes would hold up everybody, whether or not they may send them. So routes take
their bodies from here, and say in OpenAPI what they are.
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

Parsed = TypeVar("Parsed")

ARRIVAL_SECONDS: Final = 30.0  # for a body: 8 MB at 270 kB a second
_SCHEMAS: Final = "#/components/schemas/"
_JSON: Final = ("application/json", "+json")
_models: set[type[BaseModel]] = set()


def described(model: type[BaseModel]) -> dict[str, Any]:
    """What a route says of its body in OpenAPI (`openapi_extra`)."""
    _models.add(model)
    content = {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{model.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}}


def schemas() -> dict[str, Any]:
    """What `described` refers to, by name."""
    asked = [(model, "validation") for model in sorted(_models, key=lambda model: model.__name__)]
    _, definitions = models_json_schema(asked, ref_template=f"{_SCHEMAS}{{model}}")  # type: ignore[arg-type]  # a list of literals
    found: dict[str, Any] = definitions["$defs"]
    return found


def announced(request: Request) -> int | None:
    """Bytes of the body, as its sender says; None where it is sent in chunks."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else None


async def read(request: Request, limit: int, seconds: float = ARRIVAL_SECONDS) -> bytes:
    """The body, which must be JSON of at most `limit` bytes and arrive within `seconds`.

    Raises Invalid, a 408 or a 413.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.endswith(_JSON):
        raise Invalid.field(
            "body",
            kind or "no Content-Type",
            "must be JSON, sent with the header Content-Type: application/json",
        )
    if (announced(request) or 0) > limit:
        raise HTTPException(413, f"the body must be at most {limit} bytes")
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise HTTPException(413, f"the body must be at most {limit} bytes")
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, f"the body must arrive within {seconds:g} s") from None
    return b"".join(parts)


async def parsed(body: bytes, parse: Callable[[bytes], Parsed]) -> Parsed:
    """`parse(body)`, in a thread."""
    return await asyncio.to_thread(parse, body)
