"""The generated schemas have what an API server asks for; the server itself is asked in tests/component."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tools.crds import all_definitions
from tools.schemas import formatted_message

from footplate_contracts.rules import FieldValueErrorReason, Rule
from footplate_contracts.v1alpha1.trainingrun import TrainingRun
from tests.support.contracts import every_rule, parts
from tests.support.nonempty import nonempty

DEFINITIONS = all_definitions()
# What a Kubernetes schema may not hold, or what makes rules too costly.
FORBIDDEN = {"$ref", "$defs", "title", "anyOf", "const", "exclusiveMinimum", "exclusiveMaximum"}


def schema(file: str) -> dict[str, Any]:
    """The schema of a definition's one version."""
    (version,) = DEFINITIONS[file]["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"])


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema node below `node`."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


def ours(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The nodes of spec and status."""
    properties = schema(file)["properties"]
    for part in ("spec", "status"):
        if part in properties:
            yield from nodes(properties[part], part)


files = pytest.mark.parametrize("file", sorted(DEFINITIONS))


@files
def test_everything_is_bounded(file: str) -> None:
    """The cost of rules is estimated from maxima; without one it is infinite."""
    unbounded = [path for path, node in ours(file) if not bounded(node)]
    assert unbounded == []


def bounded(node: dict[str, Any]) -> bool:
    """Whether a value of this schema has a largest size."""
    kind = node["type"]
    if kind == "string":
        return "maxLength" in node or "enum" in node
    if kind == "array":
        return "maxItems" in node
    if kind == "object":
        return "properties" in node or "maxProperties" in node
    return kind in ("integer", "number", "boolean")


@files
def test_a_definition_is_small(file: str) -> None:
    """Keep a client-side apply possible, whose annotation has at most 256 KiB."""
    assert len(json.dumps(DEFINITIONS[file])) <= 180_000


@files
def test_schemas_are_structural(file: str) -> None:
    assert [(path, key) for path, node in ours(file) for key in node if key in FORBIDDEN] == []


@files
def test_every_field_is_described(file: str) -> None:
    """For `kubectl explain`."""
    described = [path for path, node in ours(file) if path[-1] not in "]}" and not node.get("description")]
    assert described == []


@files
def test_defaults_are_whole(file: str) -> None:
    """The API server runs rules on a default before it fills in the defaults of its members."""
    lacking = [
        f"{path}.{name}"
        for path, node in ours(file)
        if isinstance(node.get("default"), dict)
        for name, child in node.get("properties", {}).items()
        if "default" in child and name not in node["default"]
    ]
    assert lacking == []


def test_conditions_are_merged_by_their_type() -> None:
    """Those of several writers live side by side."""
    lists = [node for file in DEFINITIONS for path, node in ours(file) if path == "status.conditions"]
    for node in nonempty(lists):
        assert node["x-kubernetes-list-type"] == "map"
        assert node["x-kubernetes-list-map-keys"] == ["type"]


def test_names() -> None:
    names = {file: item["spec"]["names"]["shortNames"] for file, item in DEFINITIONS.items()}
    assert names == {
        "trainingruns.footplate.dev.yaml": ["trun"],
        "computeprofiles.footplate.dev.yaml": ["cprof"],
        "noderecords.footplate.dev.yaml": ["nrec"],
        "usagerecords.footplate.dev.yaml": ["usage"],
        "priceentries.footplate.dev.yaml": ["price"],
        "carbonintensities.footplate.dev.yaml": ["carbon"],
    }


def test_subresources() -> None:
    (version,) = DEFINITIONS["trainingruns.footplate.dev.yaml"]["spec"]["versions"]
    assert version["subresources"].keys() == {"status", "scale"}


def test_unsupported_fields_are_refused_not_ignored() -> None:
    """Every field that exists and is forbidden says so by name and says what to do."""
    refusals = [
        (path, rule)
        for path, rule in every_rule(TrainingRun, "run")
        if rule.refusal is FieldValueErrorReason.FORBIDDEN and not rule.is_transition
    ]
    for path, rule in nonempty(refusals):
        assert rule.field.rsplit(".", 1)[-1] in rule.template, path
        assert rule.template.count("; ") == 1, f"{path}: {rule.template} has no remedy"


def test_no_contract_field_is_missing_from_the_schema() -> None:
    known = {path for path, _ in ours("trainingruns.footplate.dev.yaml")}
    wanted = {
        f"{path}.{field.alias or name}"
        for path, model in parts(TrainingRun.model_fields["spec"].annotation, "spec")
        for name, field in model.model_fields.items()
    }
    assert wanted - known == set()


def test_the_api_server_formats_the_message_of_a_rule() -> None:
    rule = Rule("self.a < self.b", "a {self.a} isn't below b {self.b}: 100 %", field="a")
    assert formatted_message(rule) == r"'a %s isn\'t below b %s: 100 %%'.format([self.a, self.b])"
