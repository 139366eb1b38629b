"""All values as tables of Markdown, and their place in a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tools.chart_values.comments import Value
from tools.chart_values.schema import resolved
from tools.chart_values.types import Schema
from tools.resources_page import bounds

BEGIN: Final = "<!-- Generated from values.yaml by `make gen`, down to the end of values. -->"
END: Final = "<!-- The end of values. -->"
_HEAD: Final = ("| value | type | default | meaning |", "|---|---|---|---|")


def placed(page: str, tables: str) -> str:
    """`page` with `tables` between its two markers. Raises ValueError where it has not each of them once."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"the page has not each of the lines {BEGIN} and {END} once, in that order")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def tables(values: Sequence[Value], schema: Schema) -> str:
    """A table of the values that are no sections, then one a section, in the order of the file."""
    writer = _Writer(schema["definitions"])
    properties = schema["properties"]
    sections = [
        value for value in values if "properties" in resolved(properties[value.path[-1]], writer.definitions)
    ]
    lines = list(_HEAD)
    for value in values:
        if value not in sections:
            lines += writer.rows(value, properties[value.path[-1]])
    for section in sections:
        lines += ["", f"### {section.name}", ""]
        if section.meaning:
            lines += [_escaped(section.meaning), ""]
        lines += _HEAD
        for child in section.children:
            lines += writer.rows(child, properties[section.path[-1]]["properties"][child.path[-1]])
    return "\n".join(lines) + "\n"


class _Writer:
    """Writes rows, with the definitions that schemas refer to."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self.definitions = definitions

    def rows(self, value: Value, node: Schema) -> Iterator[str]:
        """A row for the value, and those of what is below it."""
        known = resolved(node, self.definitions)
        properties = known.get("properties")
        meaning = value.meaning or known.get("description", "")
        if properties is None or not value.children:
            default = "as in values.yaml" if _large(value.default) else f"`{_shown(value.default)}`"
            yield _row(value.name, self._words(known), default, meaning)
        elif value.meaning:
            yield _row(value.name, "map", "", meaning)
        for child in value.children:
            if properties is not None:
                yield from self.rows(child, properties[child.path[-1]])
            elif child.meaning and isinstance(known.get("additionalProperties"), dict):
                yield _row(child.name, "map", "as in values.yaml", child.meaning)

    def _words(self, schema: Schema) -> str:
        """A type as people call it."""
        known = resolved(schema, self.definitions)
        if "enum" in known:
            return ", ".join(f"`{_shown(member)}`" for member in known["enum"])
        if "anyOf" in known:
            return ", or ".join(self._words(member) for member in known["anyOf"])
        if isinstance(known["type"], list):
            return " or ".join(known["type"])
        if known["type"] == "array":
            inner = resolved(known["items"], self.definitions)
            return f"list of {inner['type']}s" if isinstance(inner.get("type"), str) else "list"
        if "exclusiveMinimum" in known:
            return f"{known['type']}, above {known['exclusiveMinimum']}, at most {known['maximum']:,}"
        if known["type"] in ("integer", "number"):
            return f"{known['type']}{bounds(known)}"
        return "map" if known["type"] == "object" else str(known["type"])


def _large(default: Any) -> bool:
    """Whether a default would make a row of the table unreadable."""
    return len(json.dumps(default)) > 100


def _shown(default: Any) -> str:
    return json.dumps(default, ensure_ascii=False)


def _row(name: str, type_: str, default: str, meaning: str) -> str:
    return f"| `{name}` | {type_} | {_piped(default)} | {_escaped(meaning)} |"


def _piped(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    """Markdown that shows `text` as it stands in a comment, within a table, too."""
    parts = _piped(text).split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]  # not within examples
    return "`".join(parts)
