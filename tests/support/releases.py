"""What a newer release would write: each record says more, and each closed set has another member."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args

from pydantic import BaseModel

UNHEARD_OF = "SunSpots"


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that `annotation` names, through unions, lists and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_of(argument)


def enums_of(annotation: Any) -> Iterator[type[Enum]]:
    """The same of its enums."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        yield annotation
    for argument in get_args(annotation):
        yield from enums_of(argument)


def extended(model: type[BaseModel], value: Any, enums: bool = False) -> Any:
    """`value`, a `model` as JSON, with a new member in each record; with `enums`, and new words for old."""
    if isinstance(value, list):
        return [extended(model, item, enums) for item in value]
    if not isinstance(value, dict):
        return value
    longer = {**value, "sunSpots": {"count": 7}}
    for name, field in model.model_fields.items():
        key = field.alias or name
        for part in models_of(field.annotation):
            if key in value:
                longer[key] = extended(part, value[key], enums)
        if enums and key in value and any(enums_of(field.annotation)):
            longer[key] = UNHEARD_OF
    return longer
