"""User functions, which a field of the spec names as package.module:function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from footplate_trainer.errors import UserMistake


def import_user_function(name: str, field: str) -> Callable[..., Any]:
    """Import the function that `name` names; UserMistake, which names the field, if there is none."""
    module, _, attribute = name.partition(":")
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserMistake(
            f"{field} {name}: no module {error.name}; add it to the image, or its folder to PYTHONPATH"
        ) from error
    try:
        found: Callable[..., Any] = getattr(imported, attribute)
    except AttributeError as error:
        raise UserMistake(f"{field} {name}: {error}") from error
    return found
