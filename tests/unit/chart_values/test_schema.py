"""The schema follows from defaults, types and annotations; what it cannot follow from is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tools.chart_values.comments import WrongValues, read
from tools.chart_values.schema import resolved, schema
from tools.chart_values.types import BY_NAME, EARLIER, TYPES

VALUES = (Path(__file__).resolve().parents[3] / "charts" / "footplate" / "values.yaml").read_text()
MODEL = {"type": "object", "properties": {"gpus": {"type": "integer"}}}


def made(text: str) -> dict[str, Any]:
    return schema(read(text), {"computeProfileSpec": MODEL}, ["Late", "Lost"])


def of(text: str) -> dict[str, Any]:
    """What is made of a value `a`, without what it means."""
    node: dict[str, Any] = made(text)["properties"]["a"]
    return {key: content for key, content in node.items() if key != "description"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: true # x\n", {"type": "boolean"}, id="boolean"),
        pytest.param("a: 1 # x\n", {"type": "integer"}, id="integer"),
        pytest.param("a: 1.5 # x\n", {"type": "number"}, id="number"),
        pytest.param('a: "1" # x\n', {"type": "string"}, id="string"),
        pytest.param(
            "# @schema type: number, minimum: 0\na: 1 # x\n",
            {"type": "number", "minimum": 0},
            id="another-type",
        ),
        pytest.param("# @schema enum: [auto, true]\na: auto # x\n", {"enum": ["auto", True]}, id="enum"),
        pytest.param(
            "# @schema pattern: '^[a-z]+$'\na: x # x\n",
            {"type": "string", "pattern": "^[a-z]+$"},
            id="pattern",
        ),
        pytest.param(
            "# @schema port\na: 1 # x\n", {"type": "integer", "minimum": 1, "maximum": 65535}, id="a-type"
        ),
        pytest.param(
            "# @schema items: string\na: [] # x\n", {"type": "array", "items": {"type": "string"}}, id="list"
        ),
        pytest.param(
            "# @schema items: alert\na: [] # x\n",
            {"type": "array", "items": {"enum": ["Late", "Lost"]}},
            id="list-of-alerts",
        ),
        pytest.param(
            "# @schema additionalProperties: string\na: {} # x\n",
            {"type": "object", "additionalProperties": {"type": "string"}},
            id="map-of-own-keys",
        ),
        pytest.param(
            "# @schema propertyNames: namespace\n"
            "# @schema additionalProperties: computeProfileSpec\na: {x: {}} # x\n",
            {
                "type": "object",
                "propertyNames": {"pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
                "additionalProperties": {"$ref": "#/definitions/computeProfileSpec"},
            },
            id="map-of-a-model",
        ),
        pytest.param("# @schema peers\na: [] # x\n", {"$ref": "#/definitions/peers"}, id="definition"),
        pytest.param(
            "a:\n  # @schema minimum: 1\n  b: 1 # x\n  affinity: {}\n",
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "b": {"description": "x", "type": "integer", "minimum": 1},
                    "affinity": TYPES["affinity"],
                },
            },
            id="section-is-closed-and-knows-names",
        ),
        pytest.param(
            "# @schema additionalProperties: true\na:\n  b: 1 # x\n",
            {
                "type": "object",
                "additionalProperties": True,
                "properties": {"b": {"description": "x", "type": "integer"}},
            },
            id="section-that-is-open",
        ),
    ],
)
def test_a_schema_follows_from_default_and_annotation(text: str, expected: dict[str, Any]) -> None:
    assert of(text) == expected


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        pytest.param("a:\n  b: 1\n", "values.yaml:2: a.b: no comment says what it means", id="unexplained"),
        pytest.param("a: [] # x\n", "values.yaml:1: a: a list; @schema items", id="list-of-what"),
        pytest.param("a: {} # x\n", "values.yaml:1: a: an empty map; @schema additional", id="map-of-what"),
        pytest.param("a: # x\n", "values.yaml:1: a: None tells no type; @schema does", id="null"),
        pytest.param(
            "a:\n  # @schema prot\n  b: 1 # x\n",
            "values.yaml:3: a.b: @schema knows no type prot",
            id="no-type",
        ),
        pytest.param(
            "# @schema items: wrod\na: [] # x\n",
            "values.yaml:2: a: @schema knows no type wrod",
            id="no-type-within",
        ),
        pytest.param(
            "a:\n  image:\n    tags: x # x\n",
            "values.yaml:3: a.image.tags: the type of a.image has no such key",
            id="key-of-no-type",
        ),
        pytest.param(
            "a:\n  image:\n    # @schema minLength: 1\n    tag: x\n",
            "values.yaml:4: a.image.tag: @schema has no effect here: the type of a.image says",
            id="annotation-within-a-type",
        ),
        pytest.param(
            "# @schema additionalProperties: object\na: # x\n  b:\n    # @schema minimum: 1\n    c: 1\n",
            "values.yaml:5: a.b.c: @schema has no effect here: that of a says",
            id="annotation-within-own-keys",
        ),
    ],
)
def test_what_no_schema_follows_from_is_refused_by_line_and_name(text: str, refusal: str) -> None:
    with pytest.raises(WrongValues) as refused:
        made(text)
    assert str(refused.value).startswith(refusal)


def test_comments_become_descriptions() -> None:
    properties = made("image: {tag: x} # mine\naffinity: {}\n# Of both.\nb:\n  c: 1 # of c\n")["properties"]
    assert properties["image"] == {"description": "mine", "$ref": "#/definitions/image"}
    assert properties["affinity"]["description"] == "as in a pod"
    assert (properties["b"]["description"], properties["b"]["properties"]["c"]["description"]) == (
        "Of both.",
        "of c",
    )


def test_a_reference_has_the_nearest_description() -> None:
    definitions = {"there": {"description": "of all", "type": "string"}}
    assert resolved({"$ref": "#/definitions/there"}, definitions)["description"] == "of all"
    own = resolved({"$ref": "#/definitions/there", "description": "of this"}, definitions)
    assert own == {"description": "of this", "type": "string"}


def test_the_whole_forbids_what_it_does_not_name() -> None:
    whole = made("a: 1 # x\n")
    assert (whole["type"], whole["additionalProperties"], list(whole["properties"])) == (
        "object",
        False,
        ["a"],
    )
    assert whole["definitions"]["computeProfileSpec"] == MODEL


def test_what_an_earlier_release_had_is_let_through_to_the_templates() -> None:
    properties = schema(
        read(VALUES), {"computeProfileSpec": {}, "priceEntrySpec": {}, "carbonIntensitySpec": {}}, []
    )["properties"]
    for (section, name), meaning in EARLIER.items():
        assert properties[section]["properties"][name] == {"description": meaning, "type": "object"}


def test_values_use_each_type() -> None:
    said = " ".join(re.findall(r"# @schema (.*)", VALUES))
    named = {name for name in TYPES if re.search(rf"\b{name}\b", said)}
    keys = {name for name in BY_NAME if re.search(rf"\b{name}:", VALUES)}
    assert set(TYPES) - named - keys == set()
    assert keys == BY_NAME
