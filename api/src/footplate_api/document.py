"""The OpenAPI document as it is served: put together once, off the event loop, when it is first asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from footplate_api import conditional
from footplate_api.conditional import IfNoneMatch


class Document:
    """`made` takes some hundred milliseconds, and what it gives does not change."""

    def __init__(self, made: Callable[[], dict[str, Any]]) -> None:
        self._made = made
        self._turn = asyncio.Lock()
        self._text: bytes | None = None

    async def text(self) -> bytes:
        """The document as JSON."""
        async with self._turn:
            if self._text is None:
                self._text = await asyncio.to_thread(self._write)
        return self._text

    def _write(self) -> bytes:
        return json.dumps(self._made(), separators=(",", ":"), ensure_ascii=False).encode()


router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi_document(request: Request, if_none_match: IfNoneMatch = None) -> Response:
    """What this API is, for programs."""
    return conditional.tagged(await request.app.state.document.text(), if_none_match)
