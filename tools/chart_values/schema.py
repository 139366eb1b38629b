"""From values with their comments to the schema that Helm checks them against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from tools.chart_values.comments import NAMED, Value
from tools.chart_values.types import BY_NAME, DEFINITIONS, EARLIER, TYPES, Schema

_OF_JSON: Final = ("array", "boolean", "integer", "number", "object", "string")
_DEFINED: Final = "#/definitions/"


def schema(values: Sequence[Value], models: Mapping[str, Schema], alerts: Sequence[str]) -> Schema:
    """The whole values.schema.json.

    `models` are definitions beside those of `types`, `alerts` the names that the type `alert` has. Raises
    `WrongValues` for a value whose type cannot be told, that nothing explains, or whose annotation is wrong.
    """
    maker = _Maker(DEFINITIONS | dict(models), TYPES | {"alert": {"enum": list(alerts)}})
    properties = {value.path[-1]: maker.schema_of(value) for value in values}
    for (*sections, name), meaning in EARLIER.items():
        node = {"properties": properties}
        for section in sections:
            node = node["properties"].get(section, {"properties": {}})
        node["properties"][name] = {"description": meaning, "type": "object"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the Footplate chart",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "definitions": maker.definitions,
    }


def resolved(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """What `node` refers to, with its own description where it has one."""
    if "$ref" not in node:
        return node
    own = {"description": node["description"]} if "description" in node else {}
    return definitions[node["$ref"].removeprefix(_DEFINED)] | own


class _Maker:
    """Makes schemas of values, with the types that there are."""

    def __init__(self, definitions: Mapping[str, Schema], types: Mapping[str, Schema]) -> None:
        self.definitions = deepcopy(dict(definitions))
        self.types = types

    def schema_of(self, value: Value) -> Schema:
        """One value's, with those below it."""
        made = self._typed(value)
        known = resolved(made, self.definitions)
        if value.meaning:
            made = {"description": value.meaning} | {key: made[key] for key in made if key != "description"}
        elif "description" not in known and not value.children:
            raise value.wrong("no comment says what it means, and its type does not either")
        return made

    def _typed(self, value: Value) -> Schema:
        said = dict(value.said)
        name = said.pop(NAMED, None)
        if name is None and not said and value.path[-1] in BY_NAME:
            name = value.path[-1]
        if name is not None:
            made = self._named(name, value)
            self._check_children(value, resolved(made, self.definitions))
            return made
        self._name_inner(said, value)
        if isinstance(value.default, dict):
            return self._map(value, said)
        if isinstance(value.default, list) and "items" not in said:
            raise value.wrong("a list; @schema items says what it has")
        if "enum" in said:
            return said
        return {"type": _type_of(value)} | said

    def _map(self, value: Value, said: dict[str, Any]) -> Schema:
        own_keys = isinstance(said.get("additionalProperties"), dict)
        if not value.children and not own_keys:
            raise value.wrong("an empty map; @schema additionalProperties says what its values are")
        made = {"type": "object"} | ({} if own_keys else {"additionalProperties": False}) | said
        if not own_keys:
            made["properties"] = {child.path[-1]: self.schema_of(child) for child in value.children}
        else:
            for below in _all(value.children):
                if below.said:
                    raise below.wrong(f"@schema has no effect here: that of {value.name} says what it is")
        return made

    def _named(self, name: str, value: Value) -> Schema:
        if name in _OF_JSON:
            return {"type": name}
        if name in self.definitions:
            return {"$ref": f"{_DEFINED}{name}"}
        if name in self.types:
            return deepcopy(self.types[name])
        raise value.wrong(f"@schema knows no type {name}")

    def _name_inner(self, said: dict[str, Any], value: Value) -> None:
        """Puts schemas in the place of types' names where a keyword asks for one."""
        for keyword in ("items", "additionalProperties", "propertyNames"):
            if isinstance(said.get(keyword), str):
                said[keyword] = self._named(said[keyword], value)
        # Every key is text already.
        if isinstance(said.get("propertyNames"), dict):
            said["propertyNames"] = {
                key: said["propertyNames"][key] for key in said["propertyNames"] if key != "type"
            }

    def _check_children(self, value: Value, known: Schema) -> None:
        """A default of a named type has that type's keys, and no annotation of its own in them."""
        for child in value.children:
            if "properties" in known and child.path[-1] not in known["properties"]:
                raise child.wrong(f"the type of {value.name} has no such key")
        for below in _all(value.children):
            if below.said:
                raise below.wrong(f"@schema has no effect here: the type of {value.name} says what it is")


def _all(values: Sequence[Value]) -> Iterator[Value]:
    for value in values:
        yield value
        yield from _all(value.children)


def _type_of(value: Value) -> str:
    """The JSON type that a default has."""
    match value.default:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    raise value.wrong(f"{value.default!r} tells no type; @schema does")
