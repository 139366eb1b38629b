"""Parses JSON into pydantic models, or reports the wrong fields; pure."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from footplate_api.errors import Invalid
from footplate_api.http.problems import from_validation, summary

ModelT = TypeVar("ModelT", bound=BaseModel)


def parse_model(kind: type[ModelT], body: bytes) -> ModelT:
    """Parse `body` as a `kind`; raises Invalid with the paths of wrong fields."""
    try:
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            # Of half a surrogate pair the fast reader knows the column only, Python's the field that has it.
            if error.errors()[0]["type"] != "json_invalid" or not (loaded := _loaded(body)):
                raise
            return kind.model_validate(loaded)
    except ValidationError as error:
        fields = from_validation({**wrong, "loc": ("body", *wrong["loc"])} for wrong in error.errors())
        raise Invalid(summary(fields), fields) from None


def _loaded(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
