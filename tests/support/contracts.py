"""The contracts as data: every rule, every field with its path, and what a newer release would write."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args

from pydantic import BaseModel

from footplate_contracts.rules import Rule
from footplate_contracts.v1alpha1.types import ApiModel


def parts(annotation: object, path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Each model at or below `annotation`, with the path of a field that holds it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield path, annotation
        for name, field in annotation.model_fields.items():
            yield from parts(field.annotation, f"{path}.{field.alias or name}")
        return
    suffix = "[]" if typing.get_origin(annotation) is list else ""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union, typing.Annotated, list):
        for argument in typing.get_args(annotation):
            yield from parts(argument, path + suffix)


def every_rule(annotation: object, path: str) -> Iterator[tuple[str, Rule]]:
    """Each rule at or below `annotation`, with the path of the node that it binds."""
    for where, model in parts(annotation, path):
        if issubclass(model, ApiModel):
            for rule in model.rules:
                yield where, rule


# -- what a newer release would write --------------------------------------------------------------


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
