"""The chart's values and its schema belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.monitoring.rules.alerts import ALERTS

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "footplate"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` without its reference."""
    if "$ref" in schema:
        return dict(SCHEMA["definitions"][schema["$ref"].rsplit("/", 1)[-1]])
    return schema


def keys_without_schema(values: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    """Paths of `values` that the schema does not name."""
    node = resolved(schema)
    if isinstance(node.get("additionalProperties"), dict) or "properties" not in node:
        return  # a map of the user's own keys
    for key, value in values.items():
        if key not in node["properties"]:
            yield f"{path}.{key}"
        elif isinstance(value, dict):
            yield from keys_without_schema(value, node["properties"][key], f"{path}.{key}")


def open_objects(schema: object, path: str) -> Iterator[str]:
    """Paths of schema nodes that list properties and allow others beside them."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("additionalProperties") is not False:
            yield path
        for key, value in schema.items():
            yield from open_objects(value, f"{path}.{key}")


@pytest.mark.parametrize("file", ["values.yaml", "values-local.yaml"])
def test_every_value_has_a_schema(file: str) -> None:
    values = yaml.safe_load((CHART / file).read_text())
    assert list(keys_without_schema(values, SCHEMA, "")) == []


def test_a_misspelt_value_is_an_error_everywhere() -> None:
    template = ".definitions.computeProfileSpec.properties.podTemplate"  # Kubernetes' own fields pass through
    found = [path for path in open_objects(SCHEMA, "") if not path.startswith(template)]
    assert found == [".properties.global"], "where values of other charts come along"


def test_every_schema_has_a_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert sorted(SCHEMA["properties"]) == sorted(values)


def spec(path: Path) -> str:
    """The text of a definition's spec, which ends it."""
    return path.read_text().partition("\nspec:\n")[2]


def test_the_chart_brings_the_generated_crds() -> None:
    generated = {path.name: spec(path) for path in (ROOT / "crds").iterdir()}
    assert {path.name: spec(path) for path in (CHART / "files" / "crds").iterdir()} == generated
    assert all(generated.values())


def test_helm_installs_no_crd_beside_the_templates() -> None:
    assert not (CHART / "crds").exists(), "Helm would make them first, as nobody's"


def test_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"]


def test_every_alert_may_be_taken_out_by_its_name() -> None:
    rules = SCHEMA["properties"]["metrics"]["properties"]["rules"]["properties"]
    assert rules["disabled"]["items"]["enum"] == list(ALERTS)
