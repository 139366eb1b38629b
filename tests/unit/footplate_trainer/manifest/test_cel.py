"""Rules evaluated here must say what an API server says of the same object."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field

from footplate_contracts.rules import FieldValueErrorReason, Rule
from footplate_contracts.v1alpha1.trainingrun import TrainingRun
from footplate_contracts.v1alpha1.types import ApiModel
from footplate_trainer.manifest.cel import broken_rules, format_double, violations


class Leaf(ApiModel):
    """A node below others."""

    size: int = 4
    word: str | None = None

    rules: ClassVar = (
        Rule("self.size % 2 == 0", "size {self.size} is odd", field="size"),
        Rule(
            "!has(self.word)", "word is not supported", field="word", refusal=FieldValueErrorReason.FORBIDDEN
        ),
    )


class Tree(ApiModel):
    """Every way in which a node holds others."""

    leaf: Leaf = Leaf()
    maybe: Leaf | None = None
    many_leaves: list[Leaf] = []
    by_name: dict[str, Leaf] = {}
    ratio: float = 0.5
    causes: Annotated[dict[str, int], Field()] = {}

    rules: ClassVar = (
        Rule("self.ratio <= 1.0", "ratio {self.ratio} is above 1"),
        Rule(
            "self.causes.all(cause, cause in ['Hang'])",
            "no cause {self.causes.filter(cause, !(cause in ['Hang']))} exists",
            field="causes",
        ),
        Rule("self.leaf.size >= oldSelf.leaf.size", "a leaf never shrinks"),
    )


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        pytest.param({}, [], id="nothing-wrong"),
        pytest.param({"leaf": {"size": 3}}, ["spec.leaf.size: Invalid value: size 3 is odd"], id="nested"),
        pytest.param(
            {"maybe": {"word": "x"}}, ["spec.maybe.word: Forbidden: word is not supported"], id="optional"
        ),
        pytest.param(
            {"manyLeaves": [{}, {"size": 1}]},
            ["spec.manyLeaves[1].size: Invalid value: size 1 is odd"],
            id="list",
        ),
        pytest.param(
            {"byName": {"a": {"size": 1}}}, ["spec.byName[a].size: Invalid value: size 1 is odd"], id="map"
        ),
        pytest.param({"ratio": 2}, ["spec: Invalid value: ratio 2 is above 1"], id="whole-double"),
        pytest.param(
            {"causes": {"Hang": 1, "Hung": 2}},
            ['spec.causes: Invalid value: no cause ["Hung"] exists'],
            id="list-in-a-message",
        ),
        pytest.param(
            {"ratio": 1.5, "leaf": {"size": 5, "word": "x"}},
            [
                "spec: Invalid value: ratio 1.5 is above 1",
                "spec.leaf.size: Invalid value: size 5 is odd",
                "spec.leaf.word: Forbidden: word is not supported",
            ],
            id="all-of-them",
        ),
    ],
)
def test_broken_rules_are_named_with_the_field_to_blame(tree: dict[str, Any], expected: list[str]) -> None:
    assert [str(found) for found in violations(Tree.from_json(tree), "spec")] == expected


@pytest.mark.parametrize(
    ("path", "field", "expected"),
    [
        pytest.param("", "", "Required value: missing", id="root"),
        pytest.param("", "spec.x", "spec.x: Required value: missing", id="field-of-the-root"),
        pytest.param("spec", "", "spec: Required value: missing", id="node"),
    ],
)
def test_the_root_has_no_path(path: str, field: str, expected: str) -> None:
    rule = Rule("has(self.x)", "missing", field=field, refusal=FieldValueErrorReason.REQUIRED)
    assert [str(found) for found in broken_rules([rule], {}, path)] == [expected]


def test_a_rule_that_cannot_be_evaluated_refuses() -> None:
    [found] = broken_rules([Rule("self.x > 1", "too small")], {}, "spec")
    assert str(found).startswith("spec: Invalid value: no such member")
    assert str(found).endswith("evaluating rule: self.x > 1")


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("self.gone > 1 || self.two == 2", id="or-right"),
        pytest.param("self.two == 2 || self.gone > 1", id="or-left"),
        pytest.param("!(self.gone > 1 && self.two > 2)", id="and-right"),
        pytest.param("!(self.two > 2 && self.gone > 1)", id="and-left"),
        pytest.param("[2, 3].all(x, x == self.two || (x == 3 && (1 + 2) * 3 == 9))", id="in-a-macro"),
    ],
)
def test_one_side_settles_whatever_the_other_is(expression: str) -> None:
    assert list(broken_rules([Rule(expression, "wrong")], {"two": 2}, "spec")) == []


@pytest.mark.parametrize("joined", ["||", "&&"])
def test_an_error_beside_what_settles_nothing_refuses(joined: str) -> None:
    neutral = "self.two > 2" if joined == "||" else "self.two == 2"
    for sides in (("self.gone", neutral), (neutral, "self.gone")):
        [found] = broken_rules([Rule(f" {joined} ".join(sides), "wrong")], {"two": 2}, "spec")
        assert str(found).startswith("spec: Invalid value: no such member")


def test_every_rule_of_the_contract_can_be_evaluated() -> None:
    run = TrainingRun.from_json({"spec": MINIMAL})
    root = {"metadata": {"name": "tiny"}, "spec": run.spec.to_json()}
    assert [*broken_rules(TrainingRun.rules, root, ""), *violations(run.spec, "spec")] == []


# As Go prints them: fmt.Printf("%g", x).
@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(0.0, "0", id="zero"),
        pytest.param(-1.0, "-1", id="negative"),
        pytest.param(0.0006, "0.0006", id="learning-rate"),
        pytest.param(0.0001, "0.0001", id="last-without-exponent"),
        pytest.param(1e-05, "1e-05", id="first-with-exponent"),
        pytest.param(-2.5e-07, "-2.5e-07", id="negative-exponent"),
        pytest.param(100000.0, "100000", id="five-zeros"),
        pytest.param(1e6, "1e+06", id="million"),
        pytest.param(1234567.0, "1.234567e+06", id="seven-digits"),
        pytest.param(1e300, "1e+300", id="three-digit-exponent"),
        pytest.param(float("inf"), "+Inf", id="infinity"),
        pytest.param(float("nan"), "NaN", id="no-number"),
    ],
)
def test_numbers_read_as_go_writes_them(value: float, text: str) -> None:
    assert format_double(value) == text


MINIMAL: dict[str, Any] = {
    "model": {
        "layers": 2,
        "hiddenSize": 64,
        "attentionHeads": 4,
        "vocabularySize": 4096,
        "contextLength": 64,
    },
    "data": {"uri": "/data"},
    "training": {"steps": 20, "globalBatchSize": 8, "optimizer": {"learningRate": 0.001}},
    "compute": {"profile": "local-cpu"},
    "checkpoint": {"uri": "/checkpoints"},
}
