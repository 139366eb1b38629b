"""Reading JSON of any release: what is missing or of another type is absent, never an error; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from footplate_api.schemas import LARGEST


def parsed(text: str) -> dict[str, Any]:
    """The object that is written there, read in half of the time that the standard library takes.

    What that alone can read is half of a character, which other releases have stored as it was told.
    """
    try:
        value = from_json(text)
    except ValueError:
        value = json.loads(text)
    return value if isinstance(value, dict) else {}


def mapping(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under `key`."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def items(parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of the list under `key`."""
    value = parent.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(parent: Mapping[str, Any], key: str, most: int = 32) -> str | None:
    """At most `most` characters, none of them such as a database refuses."""
    value = parent.get(key)
    if not isinstance(value, str):
        return None
    return value.replace("\0", "").encode("utf-8", "replace").decode()[:most]


def whole(parent: Mapping[str, Any], key: str) -> int | None:
    """A whole number that a column holds."""
    value = parent.get(key)
    return value if isinstance(value, int) and abs(value) <= LARGEST else None


def number(parent: Mapping[str, Any], key: str) -> float | None:
    """Any number that a column holds."""
    value = parent.get(key)
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def time(parent: Mapping[str, Any], key: str) -> datetime | None:
    """An instant in RFC 3339; one without a zone is taken for UTC."""
    value = parent.get(key)
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def instant(seconds: float | None) -> datetime | None:
    """The time so many seconds after the Unix epoch."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # infinite, or of no calendar
        return None
