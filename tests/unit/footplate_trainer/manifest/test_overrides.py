"""--set: what may be changed, and what a misspelt path is told."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_trainer.manifest.overrides import override
from footplate_trainer.manifest.run_file import parse_value

SPEC: dict[str, Any] = {"training": {"steps": 20, "optimizer": {"learningRate": 0.1}}, "data": {"uri": "/a"}}


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        pytest.param("training.steps=10", {"training": {"steps": 10}}, id="number"),
        pytest.param(
            "training.optimizer.learningRate=6e-4",
            {"training": {"optimizer": {"learningRate": 0.0006}}},
            id="exponent",
        ),
        pytest.param("data.uri=/b=c", {"data": {"uri": "/b=c"}}, id="text-with-equals"),
        pytest.param(
            "training.optimizer.betas=[0.9, 0.99]",
            {"training": {"optimizer": {"betas": [0.9, 0.99]}}},
            id="list",
        ),
        pytest.param(
            "data.packing={enabled: false}", {"data": {"packing": {"enabled": False}}}, id="mapping"
        ),
        pytest.param(
            "data.packing.enabled=false", {"data": {"packing": {"enabled": False}}}, id="new-parent"
        ),
        pytest.param(
            "trainer.resources.limits.cpu=2", {"trainer": {"resources": {"limits": {"cpu": 2}}}}, id="map"
        ),
        pytest.param(
            "resilience.restartLimits.Hang=3",
            {"resilience": {"restartLimits": {"Hang": 3}}},
            id="map-of-numbers",
        ),
    ],
)
def test_a_field_takes_the_value(assignment: str, expected: dict[str, Any]) -> None:
    assert merged(expected, SPEC) == override(SPEC, [assignment], parse_value)


def test_null_removes_and_later_ones_win() -> None:
    changed = override(SPEC, ["training.steps=null", "training.tokens=5", "training.tokens=6"], parse_value)
    assert changed["training"] == {"tokens": 6, "optimizer": {"learningRate": 0.1}}
    assert SPEC["training"]["steps"] == 20


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        pytest.param("training.steps", "pass path=value, such as training.steps=10", id="no-value"),
        pytest.param("training.steps= ", "pass path=value", id="empty-value"),
        pytest.param(
            "training.step=1", "spec.training has no field step; did you mean steps?", id="misspelt"
        ),
        pytest.param(
            "training.micro_batch_size=1",
            "has no field micro_batch_size; did you mean microBatchSize?",
            id="snake-case",
        ),
        pytest.param("trainig.steps=1", "spec has no field trainig; did you mean training", id="parent"),
        pytest.param("zzz=1", "spec has no field zzz; its fields are budget, checkpoint,", id="nothing-near"),
        pytest.param("spec.training.steps=1", "paths are relative to spec", id="with-spec"),
        pytest.param(
            "training.steps.more=1", "training.steps is a plain value; set it as a whole", id="below-a-value"
        ),
        pytest.param("training.optimizer.betas.0=1", "training.optimizer.betas is a list", id="list-item"),
        pytest.param("data.sources.uri=1", "data.sources is a list", id="list-of-models"),
        pytest.param("training.steps=[1", "the value is not valid YAML: line 1", id="no-yaml"),
    ],
)
def test_a_path_that_does_not_exist_is_refused(assignment: str, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        override(SPEC, [assignment], parse_value)
    assert problem in str(caught.value)


def test_a_value_where_the_file_should_have_a_mapping_is_refused() -> None:
    with pytest.raises(ValueError, match="the file has 5 at training, not a mapping"):
        override({"training": 5}, ["training.steps=1"], parse_value)


def merged(changes: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(value, base.get(key, {})) if isinstance(value, dict) else value
    return result
