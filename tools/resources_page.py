"""The reference of our resources as Markdown, from the CRDs themselves.

Written by hand it would be wrong after a week. What a field means, its default,
its bounds, whether this release acts upon it and when it may change all stand in
the schema and its rules already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tools.crds import all_definitions

from footplate_contracts.directives import LIMIT_FIELDS
from footplate_contracts.rules import FieldValueErrorReason

Schema = dict[str, Any]

_UNSUPPORTED = re.compile(r"not supported by this release; (?P<remedy>[^']+)")
_UNCHANGING = re.compile(r"(?P<field>\S+) cannot be changed(?P<when> while the run is active)?")

_OPENING = """<!-- Generated from footplate_contracts by `make gen`; edited by nobody. -->

# Resources

Every field of `footplate.dev/v1alpha1`, as `kubectl explain` has it. A field marked *later* has its place
in the shape and no behaviour yet: the API server refuses it by name, and never ignores it. Where only some
values have behaviour, the table says which.
"""


_LATER = f"""What ranks read (`training`, `checkpoint`,
`validation`, `telemetry`) takes effect when the run is suspended and resumed, and until then the condition
Reconciled names it. {", ".join(f"`{field}`" for field in LIMIT_FIELDS)} change while ranks train
([elasticity](elasticity.md)), and the rest takes effect at once.
"""


def reference() -> str:
    """The whole page."""
    sections = [_OPENING]
    for definition in all_definitions().values():
        sections += _resource(definition)
    return "\n".join(sections)


def _resource(definition: Schema) -> Iterator[str]:
    names = definition["spec"]["names"]
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    yield f"## {names['kind']}\n"
    scope = "in a namespace" if definition["spec"]["scope"] == "Namespaced" else "of the whole cluster"
    yield f"{schema['description']} Lives {scope}; `kubectl get {names['shortNames'][0]}`.\n"
    yield from _changes(schema["properties"]["spec"])
    for part in ("spec", "status"):
        if part in schema["properties"]:
            yield from _tables(part, schema["properties"][part])


def _changes(spec: Schema) -> Iterator[str]:
    """When a field may change, where a rule restricts it."""
    never: list[str] = []
    suspended: list[str] = []
    for rule in spec.get("x-kubernetes-validations", []):
        found = _UNCHANGING.match(rule.get("message", ""))
        if found:
            (suspended if found["when"] else never).append(f"`{found['field']}`")
    if never:
        yield f"Never changes: {', '.join(never)}.\n"
    if suspended:
        yield f"Changes only while the run is suspended: {', '.join(suspended)}.\n"
        yield "Everything else in `spec` may change at any time. " + _LATER


def _tables(path: str, node: Schema) -> Iterator[str]:
    """One table for the fields of `node`, then one for each object among them."""
    unsupported = dict(_unsupported(node))
    required = node.get("required", [])
    yield f"### {path}\n"
    yield f"{node['description']}\n"
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, child in node["properties"].items():
        default = "required" if name in required else _default(child)
        meaning = child.get("description", "")
        if name in unsupported:
            meaning = f"*{unsupported[name]}* {meaning}".rstrip()
        yield f"| `{name}` | {_type(child)} | {default} | {meaning.replace('|', chr(92) + '|')} |"
    yield ""
    for name, child in node["properties"].items():
        inner, suffix = (child["items"], "[]") if child["type"] == "array" else (child, "")
        if "properties" in inner:
            yield from _tables(f"{path}.{name}{suffix}", inner)


def _unsupported(node: Schema) -> Iterator[tuple[str, str]]:
    """Field -> what of it has no behaviour yet."""
    for rule in node.get("x-kubernetes-validations", []):
        text = rule.get("message") or rule.get("messageExpression", "")
        found = _UNSUPPORTED.search(text)
        if found and rule["reason"] == FieldValueErrorReason.FORBIDDEN:
            remedy = found["remedy"]
            field = rule["fieldPath"].removeprefix(".")
            yield field, "later:" if remedy == "remove it" else f"now: {remedy}."


def _type(node: Schema) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node["type"] == "array":
        return f"list, at most {node['maxItems']}"
    if node["type"] in ("integer", "number"):
        return f"{node['type']}{bounds(node)}"
    if node.get("format") == "date-time":
        return "time"
    if node["type"] == "string" and "maxLength" in node:
        return f"string, at most {node['maxLength']}"
    return "map" if node["type"] == "object" and "properties" not in node else str(node["type"])


def bounds(node: Schema) -> str:
    """What a number may be, to stand behind its type; empty where nothing limits it from below."""
    low, high = node.get("minimum"), node.get("maximum")
    if low is None:
        return ""
    return f", {_number(low)} to {_number(high)}" if high is not None else f", from {_number(low)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def _default(node: Schema) -> str:
    if "default" not in node:
        return ""
    value = node["default"]
    if isinstance(value, dict) and value:
        return "see below"
    return f"`{json.dumps(value)}`"
