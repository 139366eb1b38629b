"""Reward for an answer that is valid JSON by a schema.

Nothing is fetched: a schema has no outside references.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, Schema, SchemaRegistry
from referencing.typing import URI

from footplate_trainer.errors import UserMistake
from footplate_trainer.rewards.scorers import SampleJson, Scorer

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def build_scorer(set_up: Mapping[str, Any]) -> Scorer:
    """Return a scorer: 1 if the whole answer is JSON that the schema allows, else 0.

    UserMistake if it is no schema.
    """
    try:
        validator = _validator(set_up["text"])
    except ValueError as error:
        raise UserMistake(f"{set_up['field']}: {error}") from error

    def score(samples: Sequence[SampleJson]) -> list[float]:
        return [float(_allowed(sample["answer"], validator)) for sample in samples]

    return score


def _validator(text: str) -> Validator:
    """Return the validator of the schema `text`; ValueError if it is no schema."""
    try:
        schema = _read(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the schema is not valid JSON: {error}") from error
    if not isinstance(schema, dict | bool):
        raise ValueError(f"a schema must be an object, true or false, not {text[:60]}")
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top level"
        raise ValueError(f"not a JSON schema, at {where}: {error.message}") from error
    registry: SchemaRegistry = SPECIFICATIONS
    resource: Resource[Schema] = Resource.from_contents(schema, default_specification=DRAFT202012)
    _resolve_all(registry, resource)
    return kind(schema, registry=registry)


def _resolve_all(registry: Registry[Schema], root: Resource[Schema]) -> None:
    """Raise ValueError for a reference to something outside the schema and the specification."""
    waiting = [(root, registry.resolver_with_root(root))]
    while waiting:
        resource, resolver = waiting.pop()
        contents = resource.contents
        for name in _REFERENCES:
            reference: URI | None = contents.get(name) if isinstance(contents, dict) else None
            if reference is None:
                continue
            try:
                resolver.lookup(reference)
            except Unresolvable as error:
                raise ValueError(
                    f"{name} {reference} is not in the schema, and is not fetched; add it under $defs"
                ) from error
        waiting += [(part, resolver.in_subresource(part)) for part in resource.subresources()]


def _allowed(answer: str, validator: Validator) -> bool:
    try:
        content = _read(answer)
    except (ValueError, RecursionError):
        return False
    return bool(validator.is_valid(content))


def _read(text: str) -> Any:
    """Parse JSON by its standard, so without NaN and Infinity."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not valid JSON")

    return json.loads(text, parse_constant=refuse)
