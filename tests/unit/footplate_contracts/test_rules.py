"""Rules speak CEL that an API server and a Python interpreter understand alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import celpy
import pytest
from celpy.adapter import json_to_cel

from footplate_contracts.rules import (
    FieldValueErrorReason,
    Rule,
    immutable,
    positive,
    required,
    supported_values,
    unsupported_field,
)
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.trainingrun import TrainingRun
from tests.support.contracts import every_rule, parts

ENVIRONMENT = celpy.Environment()
RULES = [*every_rule(TrainingRun, "run"), *every_rule(ComputeProfileSpec, "profile")]


def evaluate(expression: str, **variables: Any) -> object:
    """The value of a CEL expression over JSON values."""
    program = ENVIRONMENT.program(ENVIRONMENT.compile(expression))
    return program.evaluate({name: json_to_cel(value) for name, value in variables.items()})


RULE = Rule("self.a < self.b", "a {self.a} isn't below b {self.b}: 100 %", field="a")


def test_message_names_the_values() -> None:
    assert evaluate(RULE.message, self={"a": 5, "b": 4}) == "a 5 isn't below b 4: 100 %"


def test_a_message_may_be_nothing_but_text() -> None:
    assert evaluate(Rule("true", "plain").message) == "plain"


def test_a_rule_about_updates_is_known_as_one() -> None:
    assert immutable("data").is_transition
    assert not RULE.is_transition


@pytest.mark.parametrize(
    ("rule", "good", "bad", "says"),
    [
        pytest.param(
            unsupported_field("x"), {}, {"x": 1}, "x is not supported by this release; remove it", id="refuse"
        ),
        pytest.param(
            supported_values("x", "a", "b"),
            {"x": "b"},
            {"x": "c"},
            "x c is not supported by this release; use a or b",
            id="only",
        ),
        pytest.param(positive("x"), {"x": 0.1}, {"x": 0.0}, "x must be above 0, not 0.0", id="positive"),
        pytest.param(required("x", "a y"), {"x": 1}, {}, "x is required: a y", id="required"),
    ],
)
def test_ready_made_rules(rule: Rule, good: object, bad: object, says: str) -> None:
    assert evaluate(rule.expression, self=good)
    assert not evaluate(rule.expression, self=bad)
    assert evaluate(rule.message, self=bad) == says
    assert rule.field == "x"


@pytest.mark.parametrize(
    ("rule", "old", "new", "holds"),
    [
        pytest.param(immutable("x"), {"x": 1}, {"x": 1}, True, id="same"),
        pytest.param(immutable("x"), {"x": 1}, {"x": 2}, False, id="changed"),
        pytest.param(immutable("x", optional=True), {}, {}, True, id="absent"),
        pytest.param(immutable("x", optional=True), {}, {"x": 1}, False, id="added"),
        pytest.param(immutable("x", optional=True), {"x": 1}, {}, False, id="removed"),
        pytest.param(
            immutable("x", unless="oldSelf.off"), {"x": 1, "off": True}, {"x": 2}, True, id="while-off"
        ),
        pytest.param(
            immutable("x", unless="oldSelf.off"), {"x": 1, "off": False}, {"x": 2}, False, id="while-on"
        ),
    ],
)
def test_unchanging(rule: Rule, old: object, new: object, holds: bool) -> None:
    assert evaluate(rule.expression, self=new, oldSelf=old) == holds
    assert rule.refusal is FieldValueErrorReason.FORBIDDEN


@pytest.mark.parametrize("rule", [pytest.param(rule, id=f"{path}-{rule.field}") for path, rule in RULES])
def test_every_rule_is_cel_for_python_too(rule: Rule) -> None:
    ENVIRONMENT.program(ENVIRONMENT.compile(rule.expression))
    ENVIRONMENT.program(ENVIRONMENT.compile(rule.message))


def test_every_blamed_field_exists() -> None:
    """An API server refuses a CRD whose rule points at nothing."""
    assert list(_dangling()) == []


def _dangling() -> Iterator[str]:
    for root in (TrainingRun, ComputeProfileSpec):
        known = {
            f"{path}.{field.alias or name}"
            for path, model in parts(root, "root")
            for name, field in model.model_fields.items()
        }
        for path, rule in every_rule(root, "root"):
            if rule.field not in ("", "metadata") and f"{path}.{rule.field}" not in known:
                yield f"{path}.{rule.field}"


def test_no_two_rules_of_a_node_are_alike() -> None:
    """Server-side apply keys rules by their expression."""
    seen = [(path, rule.expression) for path, rule in RULES]
    assert len(set(seen)) == len(seen)
