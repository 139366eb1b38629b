"""Cursors: the position of a page's last run, so that the next page continues there whatever was added; pure.

A cursor is for one query. It reveals nothing that the page did not, and a forged one only skips runs that its
caller may see; the digest detects cursors that were truncated or are of another query.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any, Final

from footplate_api.errors import Invalid
from footplate_api.runs.sort_order import CursorPosition, RunSort, order

LONGEST: Final = 1024  # characters
_UID: Final = re.compile(r"[-0-9A-Za-z]{1,64}")
_DIGEST: Final = 12  # bytes
_TIMES: Final = ("created_at", "ended_at")


def encode(position: CursorPosition, query: str) -> str:
    """Return a URL-safe cursor; `query` is all that the next page must have in common with this one."""
    values = [value.isoformat() if isinstance(value, datetime) else value for value in position.values]
    said = json.dumps(values).encode()
    return base64.urlsafe_b64encode(_digest(said, query) + said).decode().rstrip("=")


def decode(cursor: str, query: str, sort: RunSort) -> CursorPosition:
    """Invert encode(); raises Invalid for anything else, and for a cursor of another query."""
    try:
        read = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, said = read[:_DIGEST], read[_DIGEST:]
        # Not all that decodes to the same bytes is what was given out.
        if base64.urlsafe_b64encode(read).decode().rstrip("=") != cursor or digest != _digest(said, query):
            raise ValueError("of another query, or none at all")
        columns = order(sort).columns
        values = json.loads(said)
        return CursorPosition(tuple(_value(*pair) for pair in zip(columns, values, strict=True)))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        message = "must be the nextCursor of the previous page, with the same path, filters and sort"
        raise Invalid.field("query.cursor", cursor[:100], message) from error


def _digest(said: bytes, query: str) -> bytes:
    return hashlib.sha256(query.encode("utf-8", "backslashreplace") + b"\0" + said).digest()[:_DIGEST]


def _value(column: str, value: Any) -> datetime | str | None:
    if column in _TIMES:
        if value is None and column == "ended_at":
            return None
        return datetime.fromisoformat(value).astimezone(UTC)
    if not isinstance(value, str) or "\0" in value or (column == "uid" and not _UID.fullmatch(value)):
        raise ValueError(f"no {column}: {value!r}")
    value.encode()  # JSON can say half of a surrogate pair, which no database takes
    return value
