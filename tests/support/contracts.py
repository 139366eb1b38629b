"""The contracts as data: every rule and every field, with its path."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator

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
