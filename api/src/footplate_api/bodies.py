"""Bodies of requests: read only once it is known that they may come, and parsed off the event loop.

FastAPI reads and parses a body before anything else is asked, in the loop: whoever sends
eight megabytes would hold up everybody, whether or not they may send them. So routes take
their bodies from here, and say in OpenAPI what they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from footplate_api.errors import Invalid

Parsed = TypeVar("Parsed")

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


@dataclass(frozen=True)
class Patience:
    """For how long a body is waited for: whoever sends it holds room that others wait for.

    `seconds` without a byte are too many, and so is a trickle that is slower than `least` bytes a second.
    """

    seconds: float = 30.0
    least: float = 32 * 1024

    def deadline(self, began: float, last: float, received: int) -> float:
        """By when more must have come of a body of which `received` bytes have, the newest of them at `last`.

        >>> patience = Patience(seconds=10, least=100)
        >>> patience.deadline(began=0, last=0, received=0), patience.deadline(began=0, last=1, received=900)
        (10, 11)
        >>> patience.deadline(began=0, last=19, received=950)
        19.5
        """
        return min(last + self.seconds, began + self.seconds + received / self.least)


async def read(request: Request, limit: int, patience: Patience) -> bytes:
    """The body, which must be JSON of at most `limit` bytes; raises Invalid, or a 408 or 413."""
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
    async for part in _arriving(request, patience):
        size += len(part)
        if size > limit:
            raise HTTPException(413, f"the body must be at most {limit} bytes")
        parts.append(part)
    return b"".join(parts)


async def _arriving(request: Request, patience: Patience) -> AsyncIterator[bytes]:
    """The parts of the body as they come; raises a 408 for one that does not."""
    clock = asyncio.get_running_loop().time
    began, received = clock(), 0
    parts = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout_at(patience.deadline(began, clock(), received)):
                part = await anext(parts, None)
        except TimeoutError:
            # The rest of it may come yet, and would be taken for the next request.
            said = f"{received} bytes of the body came, and then too little for {patience.seconds:g} seconds"
            raise HTTPException(408, said, {"Connection": "close"}) from None
        if part is None:
            return
        received += len(part)
        yield part


async def parsed(body: bytes, parse: Callable[[bytes], Parsed]) -> Parsed:
    """`parse(body)`, in a thread."""
    return await asyncio.to_thread(parse, body)
