"""Conditional requests: responses with an entity tag, and 304 for a caller who has the same one already.

The tag is a digest of the response body: nothing has to know which state of a run the body shows.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Final

from fastapi import Header, Response, status

from footplate_api.http.openapi import Responses
from footplate_api.serialization.schemas import Schema

IfNoneMatch = Annotated[
    str | None, Header(max_length=8192, description="ETags of responses that the caller has; `*` for any")
]
_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_HEADERS: Final = {"ETag": {"description": "value for If-None-Match", "schema": {"type": "string"}}}


def etag_response(answer: Schema | bytes, if_none_match: str | None) -> Response:
    """Return `answer` as a JSON response with its ETag, or a 304; bytes are JSON already."""
    body = answer if isinstance(answer, bytes) else answer.model_dump_json(by_alias=True).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    # Of one caller alone, and asked for anew each time: others may have other rights, or soon none.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if if_none_match is not None and has(if_none_match, tag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def has(if_none_match: str, tag: str) -> bool:
    """Return whether the header `if_none_match` matches `tag`.

    >>> has('W/"a", "b"', '"a"'), has("*", '"a"'), has('"b"', '"a"')
    (True, True, False)
    """
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)


def with_etag_responses(responses: Responses) -> Responses:
    """Return a route's `responses` with the ETag header and the 304."""
    found: dict[str, Any] = responses.get(200, {})
    unchanged = {"description": "Not modified: If-None-Match has the current ETag", "headers": _HEADERS}
    return {**responses, 200: {**found, "headers": {**found.get("headers", {}), **_HEADERS}}, 304: unchanged}
