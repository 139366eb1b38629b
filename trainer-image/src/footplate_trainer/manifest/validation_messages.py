"""pydantic's validation errors in the API server's words.

A user reads both; two wordings of one mistake look like two mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from footplate_trainer.manifest.overrides import field_names, nested_model, suggestion

_BOUNDS = {
    "greater_than_equal": ("ge", "greater than or equal to"),
    "less_than_equal": ("le", "less than or equal to"),
}
_LENGTHS = {
    "string_too_long": "Too long: may not be more than {max_length} bytes",
    "string_too_short": "Invalid value: {shown}: {path} in body should be at least {min_length} chars long",
    "too_long": "Too many: {actual_length}: must have at most {max_length} items",
    "too_short": "Invalid value: {actual_length}: {path} in body should have at least {min_length} items",
}
_TYPES = {
    "int": "integer",
    "float": "number",
    "string": "string",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
    "model": "object",
}


def validation_lines(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Return one line for each error: the field's path, the value, and what would be right."""
    return [_refusal(details, root) for details in error.errors()]


def _refusal(details: ErrorDetails, root: type[BaseModel]) -> str:
    location, kind, given = details["loc"], details["type"], details["input"]
    context: dict[str, Any] = details.get("ctx", {})
    path, shown = _dotted(location), json.dumps(given, default=str)
    if kind == "extra_forbidden":
        model = _model_at(root, location[:-1])
        return f"{path}: unknown field{suggestion(str(location[-1]), field_names(model) if model else ())}"
    if kind == "missing":
        return f"{path}: Required value"
    if kind == "enum":
        # pydantic writes 'a', 'b' or 'c'
        allowed = context["expected"].replace("'", '"').replace(" or ", ", ")
        return f"{path}: Unsupported value: {shown}: supported values: {allowed}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{path}: Invalid value: {shown}: {path} in body should be {words} {context[key]:g}"
    if kind in _LENGTHS:
        return f"{path}: {_LENGTHS[kind].format(path=path, shown=shown, **context)}"
    wanted = _TYPES.get(kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float"))
    if wanted is not None:
        return (
            f'{path}: Invalid value: {shown}: {path} in body must be of type {wanted}: "{_json_type(given)}"'
        )
    return f"{path}: Invalid value: {shown}: {details['msg']}"


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _dotted(location: Sequence[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _model_at(root: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = root
    for part in location:
        if model is not None and isinstance(part, str):
            model = nested_model(field_names(model).get(part))
    return model
