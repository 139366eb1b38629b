"""From models to structural schemas, as CRDs need them.

pydantic's JSON schema is not a structural schema: it has `$ref`, `title`, `anyOf
[..., null]` and `additionalProperties: false`, and it knows no CEL. This module
inlines, strips and decorates it until an API server takes it. The API server is
the judge: a test applies the result.
"""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from footplate_contracts.base import Contract
from footplate_contracts.rules import PLACEHOLDER, Rule, literal
from footplate_contracts.v1alpha1.types import ApiModel

Schema = dict[str, Any]

_KEPT = (
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "pattern",
    "default",
    "description",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)


def structural_schema(model: type[BaseModel], *, description: str | None = None) -> Schema:
    """The structural OpenAPI v3 schema of `model`, with its CEL rules."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    definitions = raw.get("$defs", {})
    schema = _structural(raw, definitions)
    _decorate(schema, model)
    if description is not None:
        schema["description"] = description
    return schema


def _structural(raw: Schema, definitions: Schema) -> Schema:
    """`raw` without references, unions with null and what Kubernetes has no word for."""
    node = dict(raw)
    if "$ref" in node:
        node = definitions[node.pop("$ref").rsplit("/", 1)[-1]] | node
    if "anyOf" in node:
        members = [member for member in node.pop("anyOf") if member.get("type") != "null"]
        assert len(members) == 1, f"a union has no place in a contract: {raw}"
        node = _structural(members[0], definitions) | {key: node[key] for key in node if key != "title"}
    if "const" in node:
        node["enum"] = [node.pop("const")]
    kept = {key: node[key] for key in _KEPT if key in node}
    if kept.get("default", 0) is None:
        del kept["default"]
    if "properties" in node:
        kept["properties"] = {
            name: _structural(child, definitions) for name, child in node["properties"].items()
        }
        if node.get("required"):
            kept["required"] = sorted(node["required"])
    elif isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "items" in node:
        kept["items"] = _structural(node["items"], definitions)
    return kept


def _decorate(schema: Schema, model: type[BaseModel]) -> None:
    """Adds rules, one-line descriptions and list types, model by model."""
    if issubclass(model, ApiModel) and model.rules:
        schema["x-kubernetes-validations"] = [validation(rule) for rule in model.rules]
    schema.setdefault("description", first_line(model))
    schema["description"] = _first_line_of(schema["description"])
    for name, field in model.model_fields.items():
        child = schema["properties"][field.alias or name]
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, Contract):
            child["default"] = default.to_json()  # in full: rules are run on it as it stands
        elif field.default_factory is not None:  # pydantic leaves out what a factory makes
            child["default"] = [item.to_json() for item in default] if isinstance(default, list) else default
        part, within = _part_of(field)
        if part is None:
            continue
        target = child[within] if within else child
        own = field.description
        if own is None and not within:
            child.pop("description", None)
        _decorate(target, part)
        if within == "items" and issubclass(part, ApiModel) and part.list_key:
            child["x-kubernetes-list-type"] = "map"
            child["x-kubernetes-list-map-keys"] = [part.list_key]


def _part_of(field: FieldInfo) -> tuple[type[BaseModel] | None, str]:
    """The model that a field holds, and where in the field's schema it is described."""
    return _model_within(field.annotation, "")


def _model_within(annotation: Any, within: str) -> tuple[type[BaseModel] | None, str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, within
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union, typing.Annotated):
        found = [_model_within(argument, within) for argument in arguments if argument is not type(None)]
        return next((pair for pair in found if pair[0] is not None), (None, ""))
    if origin is list:
        return _model_within(arguments[0], "items")
    if origin is dict:
        return _model_within(arguments[1], "additionalProperties")
    return None, ""


def validation(rule: Rule) -> Schema:
    named = PLACEHOLDER.findall(rule.template)
    message = {"messageExpression": formatted_message(rule)} if named else {"message": rule.template}
    where = {"fieldPath": f".{rule.field}"} if rule.field else {}
    return {"rule": rule.expression, **message, "reason": rule.refusal.value, **where}


def formatted_message(rule: Rule) -> str:
    """The message as a CEL expression that an API server finds cheap enough.

    Its estimate of `string(number)` has no upper bound, so that adding a text to
    one exceeds every budget; `format` is estimated by its pattern alone.
    """
    pattern = PLACEHOLDER.sub("%s", rule.template.replace("%", "%%"))
    return f"{literal(pattern)}.format([{', '.join(PLACEHOLDER.findall(rule.template))}])"


def first_line(model: type[BaseModel]) -> str:
    return _first_line_of(model.__doc__ or "")


def _first_line_of(text: str) -> str:
    return text.strip().split("\n", 1)[0]


def published_schema(model: type[BaseModel]) -> Schema:
    """The schema of `model` for readers that are no API server, such as those who generate clients.

    What strict validation refuses is said in their words, and the CEL rules, which they do not know, are
    left out.
    """
    return _published(structural_schema(model))


def _published(schema: Schema) -> Schema:
    kept = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if "properties" in schema:
        kept["properties"] = {name: _published(child) for name, child in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = _published(schema["additionalProperties"])
    if "items" in schema:
        kept["items"] = _published(schema["items"])
    return kept
