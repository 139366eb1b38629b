"""Route of the OpenAPI document, which a thread builds once, at the first request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from footplate_api.http import conditional
from footplate_api.http.conditional import IfNoneMatch


class OpenApiDocument:
    """JSON of the OpenAPI document; `made` takes some hundred milliseconds, so its result is cached."""

    def __init__(self, made: Callable[[], dict[str, Any]]) -> None:
        self._made = made
        self._turn = asyncio.Lock()
        self._text: bytes | None = None

    async def text(self) -> bytes:
        """Return the document as JSON."""
        async with self._turn:
            if self._text is None:
                self._text = await asyncio.to_thread(self._write)
        return self._text

    def _write(self) -> bytes:
        return json.dumps(self._made(), separators=(",", ":"), ensure_ascii=False).encode()


router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi_document(request: Request, if_none_match: IfNoneMatch = None) -> Response:
    """Return the OpenAPI document."""
    return conditional.etag_response(await request.app.state.document.text(), if_none_match)
