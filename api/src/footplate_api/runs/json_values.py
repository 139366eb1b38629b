"""Checks for values that Python reads as JSON and no API server does; pure.

The API server would refuse NaN, or half a surrogate pair, with an error on the whole body that names no
field.
"""

from __future__ import annotations

import math
from typing import Any, Final

from footplate_api.errors import Invalid

DEEPEST: Final = 64  # levels; a pod's template, which is the deepest part of a run, has about twenty


def check_json(place: str, value: Any) -> None:
    """Raise Invalid for a part of `value` that JSON cannot carry; `place` is its name.

    The names of the parts are built only for a wrong one: a list may have a million.
    """
    _check([place], value)


def _check(path: list[str | int], value: Any) -> None:
    if len(path) > DEEPEST:
        raise Invalid(
            f"{_place(path)[:100]}… is nested deeper than {DEEPEST} levels; a TrainingRun has no such field"
        )
    if isinstance(value, dict):
        for key, member in value.items():
            path.append(key)
            _text(path, key)
            _check(path, member)
            path.pop()
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, int):  # nothing can be wrong with it, and there may be a million
                continue
            path.append(index)
            _check(path, item)
            path.pop()
    elif isinstance(value, str):
        _text(path, value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Invalid.field(_place(path), value, "must be a finite number")


def _place(path: list[str | int]) -> str:
    first, *rest = path
    return str(first) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)


def _text(path: list[str | int], text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid.field(_place(path), text[:100], "must be text without lone surrogates") from None
