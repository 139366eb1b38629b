"""A caller's value as it is said back: never longer than a person reads, however large it is; pure."""

from __future__ import annotations

import json
from typing import Final

SHOWN: Final = 200  # characters
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=repr)


def brief(value: object, most: int = SHOWN) -> str:
    """Text as it is, anything else as JSON, cut after `most` characters.

    Only what is shown is written: a body of megabytes costs as little as a word.

    >>> brief({"a": [1, None]}), brief("x" * 5, most=3)
    ('{"a": [1, null]}', 'xxx…')
    """
    if isinstance(value, str):
        return cut(value, most)
    if isinstance(value, bytes):
        return cut(repr(value[: most + 1]), most)
    text = ""
    for part in _ENCODER.iterencode(value):
        text += part[: most + 1]
        if len(text) > most:
            break
    return cut(text, most)


def cut(text: str, most: int) -> str:
    """`text`, with an ellipsis where it is longer than `most`."""
    return text if len(text) <= most else text[:most] + "…"
