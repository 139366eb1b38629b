"""JSON readers for any release: a value that is missing or of another type is absent, not an error; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from footplate_api.serialization.schemas import LARGEST


def parse_object(text: str) -> dict[str, Any]:
    """Parse a JSON object, in half of the time that the standard library takes; any other value is empty.

    The standard library alone reads half a surrogate pair, which other releases have stored as it was sent.
    """
    try:
        value = from_json(text)
    except ValueError:
        value = json.loads(text)
    return value if isinstance(value, dict) else {}


def mapping(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object under `key`, else an empty one."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def items(parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the objects of the list under `key`, else an empty list."""
    value = parent.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(parent: Mapping[str, Any], key: str, most: int = 32) -> str | None:
    """Return at most `most` characters of the text under `key`, without any that a database refuses."""
    value = parent.get(key)
    if not isinstance(value, str):
        return None
    return value.replace("\0", "").encode("utf-8", "replace").decode()[:most]


def get_int(parent: Mapping[str, Any], key: str) -> int | None:
    """Return the integer under `key`, if a column can hold it."""
    value = parent.get(key)
    return value if isinstance(value, int) and abs(value) <= LARGEST else None


def number(parent: Mapping[str, Any], key: str) -> float | None:
    """Return the number under `key` as a float, if it fits."""
    value = parent.get(key)
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def time_at(parent: Mapping[str, Any], key: str) -> datetime | None:
    """Return the RFC 3339 time under `key` in UTC, which is also assumed where it has no zone."""
    value = parent.get(key)
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def from_timestamp(seconds: float | None) -> datetime | None:
    """Return the time `seconds` after the Unix epoch; None if no calendar has it."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # infinite, or of no calendar
        return None
