"""Cursors of the audit: where a page ended, for the query whose page it was; pure."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from footplate_api.errors import Invalid
from footplate_api.schemas import LARGEST

LONGEST: Final = 128  # characters
_DIGEST: Final = 12  # bytes


@dataclass(frozen=True)
class Place:
    """The last entry of a page, in the order newest first."""

    at: datetime
    id: int


def encode(place: Place, query: str) -> str:
    """An opaque text that is safe in a URL; `query` says all that the next page shares with this one."""
    said = f"{place.at.isoformat()} {place.id}".encode()
    return base64.urlsafe_b64encode(_digest(said, query) + said).decode().rstrip("=")


def decode(cursor: str, query: str) -> Place:
    """The inverse of encode(); raises Invalid for anything else, and for a cursor of another query."""
    try:
        known = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, said = known[:_DIGEST], known[_DIGEST:]
        at, _, number = said.decode().partition(" ")
        place = Place(datetime.fromisoformat(at).astimezone(UTC), int(number))
        if digest != _digest(said, query) or not 0 <= place.id <= LARGEST:
            raise ValueError("of another query")
    except (ValueError, OverflowError) as error:
        message = "must be the nextCursor of the page before, with the same filters"
        raise Invalid.field("query.cursor", cursor, message) from error
    return place


def _digest(said: bytes, query: str) -> bytes:
    return hashlib.sha256(json.dumps([said.decode(), query]).encode()).digest()[:_DIGEST]
