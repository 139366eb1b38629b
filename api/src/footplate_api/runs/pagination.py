"""Cursors: where a page ended, so that the next goes on there whatever was added since."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from footplate_api.errors import Invalid

_UID: Final = re.compile(r"[-0-9A-Za-z]{1,64}")


@dataclass(frozen=True)
class Position:
    """The last run of a page, in the order newest first."""

    created_at: datetime
    uid: str


def encode(position: Position) -> str:
    """An opaque text that is safe in a URL."""
    text = json.dumps([position.created_at.isoformat(), position.uid])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str) -> Position:
    """The inverse of encode(); raises Invalid for anything else."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        created_at, uid = json.loads(text)
        position = Position(datetime.fromisoformat(created_at).astimezone(UTC), uid)
        if not _UID.fullmatch(uid):
            raise ValueError(f"no uid: {uid!r}")
    except (ValueError, TypeError, OverflowError) as error:
        raise Invalid.field(
            "query.cursor", cursor[:100], "must be the nextCursor of the page before"
        ) from error
    return position
