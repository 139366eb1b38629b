"""Reads a values.yaml with its comments: of each value where it stands, its default and what is said of it.

What a value means stands above it, at its own indentation, or behind it on its line. A comment that an empty
line parts from what follows is of no value. What a default does not tell stands in a line of its own there:

    # @schema NAME                          a type of `types`
    # @schema minimum: 1, maximum: 65535    keywords of JSON schema, as the inside of a YAML map
    # @schema items: NAME                   where a keyword asks for a schema, a type does

Several such lines are one. Patterns are quoted with ' and read as they stand. A comment line that is indented
further is an example.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

KEYWORDS: Final = frozenset(
    {
        "additionalProperties",
        "enum",
        "exclusiveMinimum",
        "items",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "propertyNames",
        "type",
        "uniqueItems",
    }
)
NAMED: Final = "$type"  # the key under which a type's name is kept; no keyword of JSON schema

_MARK: Final = re.compile(r"@\w*")
_NAME: Final = re.compile(r"[A-Za-z]\w*")


class WrongValues(ValueError):
    """A values file that no schema can be made of: which value, in which line, and why."""

    def __init__(self, line: int, path: Sequence[str], problem: str) -> None:
        super().__init__(f"values.yaml:{line}: {'.'.join(path) or 'the file'}: {problem}")


@dataclass(frozen=True)
class Value:
    """One key of the file."""

    path: tuple[str, ...]
    line: int
    """From 1."""
    default: Any
    meaning: str
    """Empty where no comment says it."""
    said: Mapping[str, Any]
    """Keywords of its annotation, or its type's name under `NAMED`."""
    children: tuple[Value, ...]
    """Of a map, in the order of the file."""

    @property
    def name(self) -> str:
        """As it is given with --set."""
        return ".".join(self.path)

    def wrong(self, problem: str) -> WrongValues:
        """The error that names this value and its line."""
        return WrongValues(self.line, self.path, problem)


def read(text: str) -> tuple[Value, ...]:
    """The values of a file, top level first. Raises `WrongValues`."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise WrongValues(1, (), "is no map")
    reader = _Reader(text.splitlines())
    values = tuple(reader.values(root, ()))
    for number, line in enumerate(reader.lines):
        if line.lstrip().startswith("# @") and number not in reader.taken:
            raise WrongValues(number + 1, (), f"{line.strip()!r} stands above no value of its indentation")
    return values


class _Reader:
    """The lines of one file, and which comments were found to be of a value."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.taken: set[int] = set()

    def values(self, node: yaml.MappingNode, path: tuple[str, ...]) -> Iterator[Value]:
        """What a map has, and what is said of it."""
        seen: set[str] = set()
        for key, value in node.value:
            here = (*path, key.value)
            line = key.start_mark.line + 1
            if key.value in seen:
                raise WrongValues(line, here, "stands there twice")
            seen.add(key.value)
            # Before a key in braces there is no line of its own.
            above = [] if node.flow_style else list(self._above(key))
            words = [text for text in above if not text.startswith("@")]
            behind = "" if node.flow_style else self._behind(key, value)
            children = self.values(value, here) if isinstance(value, yaml.MappingNode) else ()
            yield Value(
                path=here,
                line=line,
                default=_plain(value),
                meaning=" ".join(word for word in (*words, behind) if word),
                said=_annotation([text for text in above if text.startswith("@")], line, here),
                children=tuple(children),
            )

    def _above(self, key: yaml.Node) -> list[str]:
        """The texts of the comment lines right above a key, at its indentation."""
        start = key.start_mark.line
        lead = " " * key.start_mark.column + "#"
        found: list[str] = []
        for number in range(start - 1, -1, -1):
            if not self.lines[number].startswith(lead):  # an empty line, too
                break
            self.taken.add(number)
            found.append(self.lines[number].strip().removeprefix("#"))
        return [f"`{text.strip()}`" if text.startswith("  ") else text.strip() for text in found[::-1]]

    def _behind(self, key: yaml.Node, value: yaml.Node) -> str:
        """The comment that ends the line of a value; of a map or list in lines of its own, its key's."""
        in_lines = isinstance(value, yaml.CollectionNode) and not value.flow_style
        mark = key.end_mark if in_lines else value.end_mark
        _, _, comment = self.lines[mark.line][mark.column :].partition("#")
        return comment.strip()


def _plain(node: yaml.Node) -> Any:
    """What a loader makes of a node."""
    return yaml.SafeLoader("").construct_document(node)


def _annotation(lines: Sequence[str], line: int, path: Sequence[str]) -> dict[str, Any]:
    """What the `@schema` lines above one value say together."""
    said: dict[str, Any] = {}
    for text in lines:
        mark = _MARK.match(text)
        if mark is None or mark[0] != "@schema":
            raise WrongValues(line, path, f"{text!r} begins with what is not @schema")
        for keyword, content in _keywords(text.removeprefix("@schema").strip(), line, path).items():
            if keyword in said:
                raise WrongValues(line, path, f"@schema says {keyword} twice")
            said[keyword] = content
    if NAMED in said and len(said) > 1:
        raise WrongValues(line, path, f"@schema {said[NAMED]} says everything; keywords beside it are lost")
    return said


def _keywords(text: str, line: int, path: Sequence[str]) -> dict[str, Any]:
    if _NAME.fullmatch(text):
        return {NAMED: text}
    try:
        said = yaml.safe_load(f"{{{text}}}")
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "no YAML"
        raise WrongValues(line, path, f"@schema {text}: {problem}") from error
    if not said:
        raise WrongValues(line, path, "@schema says nothing")
    for keyword, content in said.items():
        if keyword not in KEYWORDS:
            known = ", ".join(sorted(KEYWORDS))
            raise WrongValues(line, path, f"@schema has no keyword {keyword}; known are {known}")
        if content is None:
            raise WrongValues(line, path, f"@schema {keyword} has no content")
    return dict(said)
