"""What Python reads as JSON and no API server does; pure.

A number that is none, or half of a character, would come back as a refusal of the
whole body that names no field.
"""

from __future__ import annotations

import math
from typing import Any, Final

from footplate_api.errors import Invalid

DEEPEST: Final = 64  # levels; a pod's template, which is the deepest part of a run, has about twenty


def check(place: str, value: Any, depth: int = 0) -> None:
    """Raises Invalid for the first part of `value` that JSON cannot carry; `place` is its name."""
    if depth > DEEPEST:
        raise Invalid(f"{place[:100]}… lies deeper than {DEEPEST} levels; a TrainingRun has no such field")
    if isinstance(value, dict):
        for key, member in value.items():
            _text(f"{place}.{key}", key)
            check(f"{place}.{key}", member, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check(f"{place}[{index}]", item, depth + 1)
    elif isinstance(value, str):
        _text(place, value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Invalid.field(place, value, "must be a finite number")


def _text(place: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid.field(place, text[:100], "must be text without half of a surrogate pair") from None
