"""Cursors of the audit log: the position of a page's last entry, bound to the page's query; pure."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from footplate_api.errors import Invalid
from footplate_api.serialization.schemas import LARGEST

LONGEST: Final = 128  # characters
_DIGEST: Final = 12  # bytes


@dataclass(frozen=True)
class AuditPosition:
    """Position of a page's last entry, in the order newest first."""

    at: datetime
    id: int


def encode(place: AuditPosition, query: str) -> str:
    """Return an opaque, URL-safe cursor; `query` contains all that the next page shares with this one."""
    said = f"{place.at.isoformat()} {place.id}".encode()
    return base64.urlsafe_b64encode(_digest(said, query) + said).decode().rstrip("=")


def decode(cursor: str, query: str) -> AuditPosition:
    """Return the position that encode() wrote; raises Invalid for other texts and other queries' cursors."""
    try:
        known = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, said = known[:_DIGEST], known[_DIGEST:]
        at, _, number = said.decode().partition(" ")
        place = AuditPosition(datetime.fromisoformat(at).astimezone(UTC), int(number))
        if digest != _digest(said, query) or not 0 <= place.id <= LARGEST:
            raise ValueError("of another query")
    except (ValueError, OverflowError) as error:
        message = "must be the nextCursor of the previous page, with the same filters"
        raise Invalid.field("query.cursor", cursor, message) from error
    return place


def _digest(said: bytes, query: str) -> bytes:
    return hashlib.sha256(json.dumps([said.decode(), query]).encode()).digest()[:_DIGEST]
