"""Truncates values that callers sent, for error messages; pure."""

from __future__ import annotations

import json
from typing import Final

SHOWN: Final = 200  # characters
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=repr)


def truncated_text(value: object, most: int = SHOWN) -> str:
    """Return a text as it is, anything else as JSON, cut after `most` characters.

    The encoder stops at the cut: a body of megabytes costs as little as a word.

    >>> truncated_text({"a": [1, None]}), truncated_text("x" * 5, most=3)
    ('{"a": [1, null]}', 'xxx…')
    """
    if isinstance(value, str):
        return truncate(value, most)
    if isinstance(value, bytes):
        return truncate(repr(value[: most + 1]), most)
    text = ""
    for part in _ENCODER.iterencode(value):
        text += part[: most + 1]
        if len(text) > most:
            break
    return truncate(text, most)


def truncate(text: str, most: int) -> str:
    """Return `text`, cut after `most` characters with an ellipsis."""
    return text if len(text) <= most else text[:most] + "…"
