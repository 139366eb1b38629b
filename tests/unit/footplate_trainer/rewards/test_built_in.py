"""The rewards that are built in, row by row."""

from __future__ import annotations

import random
import re
from decimal import Decimal
from typing import Any

import pytest

from footplate_trainer.errors import UserMistake
from footplate_trainer.rewards import json_schema, math_equality, number_match
from footplate_trainer.rewards.reward_functions import length_reward
from footplate_trainer.rewards.reward_values import NoReward, parse_rewards
from footplate_trainer.rewards.scorers import regular_expression_scorer, to_json
from tests.support.rewards.samples import sample


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("1,200", "1200", id="thousands"),
        pytest.param("1,234,567.50", "1234567.5", id="millions"),
        pytest.param("1,0000", "0", id="no-thousands"),
        pytest.param("1, 2,3", "3", id="a-list"),
        pytest.param("-5", "-5", id="negative"),
        pytest.param("−7", "-7", id="unicode-minus"),
        pytest.param("+3", "3", id="positive"),
        pytest.param("12-5", "5", id="a-difference"),
        pytest.param("x-5", "5", id="a-hyphen"),
        pytest.param("-$1,200.50", "-1200.5", id="dollars"),
        pytest.param("$-5", "-5", id="sign-behind-the-currency"),
        pytest.param(".5", "0.5", id="no-digit-in-front"),
        pytest.param("The answer is 5.", "5", id="end-of-a-sentence"),
        pytest.param("72%", "72", id="percent"),
        pytest.param("007", "7", id="zeros"),
        pytest.param("٣", None, id="digits-of-another-script"),
        pytest.param("none", None, id="none"),
        pytest.param("", None, id="empty"),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    assert number_match.last_number(text) == (None if number is None else Decimal(number))


def test_whatever_a_number_is_written_as_is_read() -> None:
    chance = random.Random(5)
    for _ in range(500):
        number = Decimal(chance.randint(-(10**9), 10**9)).scaleb(-chance.randint(0, 4))
        for text in (f"{number:f}", f"so it is {number:,f}.", f"#### {number:+,f}"):
            assert number_match.last_number(text) == number, text


@pytest.mark.parametrize(
    ("answer", "reference", "said"),
    [
        pytest.param("so #### 72", "72", 1.0, id="equal"),
        pytest.param("#### 72.00", 72, 1.0, id="a-number-as-reference"),
        pytest.param("#### 1,000", "Half of 2,000\n#### 1000", 1.0, id="a-whole-solution-as-reference"),
        pytest.param("#### 3 #### 72", "72", 1.0, id="the-last-mark"),
        pytest.param("#### 3 + 69 = 72", "72", 1.0, id="the-last-number"),
        pytest.param("72", "72", 0.0, id="no-mark"),
        pytest.param("72 ####", "72", 0.0, id="nothing-behind-the-mark"),
        pytest.param("#### 71", "72", 0.0, id="another"),
        pytest.param("#### 0.1", 0.1, 1.0, id="a-fraction-no-float-is"),
        pytest.param("#### 1", True, "the reference answer True has no number", id="a-truth"),
        pytest.param("#### 1", None, "the reference answer None has no number", id="no-reference"),
        pytest.param("#### 1", float("nan"), "the reference answer nan has no number", id="nan"),
        pytest.param("#### 1", "one", "the reference answer 'one' has no number", id="a-word"),
    ],
)
def test_a_number_behind_a_mark(answer: str, reference: Any, said: float | str) -> None:
    assert number_match.reward(answer, reference, "####") == said


@pytest.mark.parametrize(
    ("tokens", "wanted", "most", "reward"),
    [
        pytest.param(8, None, 16, 0.5, id="share"),
        pytest.param(16, None, 16, 1.0, id="all"),
        pytest.param(12, 12, 16, 0.0, id="just-wanted"),
        pytest.param(3, 12, 16, 0.0, id="short"),
        pytest.param(14, 12, 16, -0.5, id="halfway"),  # DAPO's known answer, 16/4 at 14
        pytest.param(16, 12, 16, -1.0, id="longest"),
    ],
)
def test_the_length(tokens: int, wanted: int | None, most: int, reward: float) -> None:
    assert length_reward(tokens, wanted, most) == reward


def judged(judge: Any, given: str, /, **columns: Any) -> float | str:
    [number] = parse_rewards(judge([to_json(sample(given, **columns))]), 1)
    return number


@pytest.mark.parametrize(
    ("pattern", "full_match", "answer", "reward"),
    [
        pytest.param(r"\d+", False, "it is 72.", 1.0, id="found"),
        pytest.param(r"\d+", False, "it is.", 0.0, id="not-found"),
        pytest.param(r"\d+", True, "72", 1.0, id="whole"),
        pytest.param(r"\d+", True, "72.", 0.0, id="not-whole"),
        pytest.param(r"(?s)<think>.*</think>.*", True, "<think>\n</think>x", 1.0, id="over-lines"),
    ],
)
def test_a_regular_expression(pattern: str, full_match: bool, answer: str, reward: float) -> None:
    assert judged(regular_expression_scorer({"pattern": pattern, "fullMatch": full_match}), answer) == reward


def test_what_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(UserMistake, match=re.escape("field (a is not a regular expression: missing ), ")):
        regular_expression_scorer({"pattern": "(a", "fullMatch": False, "field": "field"})


SCHEMA = """{"type": "object", "required": ["answer"], "properties": {"answer": {"$ref": "#/$defs/whole"}},
             "$defs": {"whole": {"type": "integer"}}}"""


@pytest.mark.parametrize(
    ("schema", "answer", "reward"),
    [
        pytest.param(SCHEMA, ' {"answer": 5}\n', 1.0, id="allowed"),
        pytest.param(SCHEMA, '{"answer": "5"}', 0.0, id="another-type"),
        pytest.param(SCHEMA, "{}", 0.0, id="missing"),
        pytest.param(SCHEMA, '```json\n{"answer": 5}\n```', 0.0, id="fenced"),
        pytest.param(SCHEMA, '{"answer": 5} and more', 0.0, id="text-behind-it"),
        pytest.param(SCHEMA, "", 0.0, id="nothing"),
        pytest.param("true", "NaN", 0.0, id="no-json-but-pythons"),
        pytest.param("true", "[" * 100_000, 0.0, id="deep"),
        pytest.param('{"items": {"$ref": "#"}}', "[[[]]]", 1.0, id="a-schema-of-itself"),
        pytest.param(
            '{"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}',
            "[1]",
            0.0,
            id="an-older-draft",
        ),
        pytest.param(
            '{"$id": "https://a.test/x", "items": {"$ref": "y"}, "$defs": {"y": {"$id": "y", "const": 1}}}',
            "[1]",
            1.0,
            id="by-its-own-name",
        ),
    ],
)
def test_a_json_schema(schema: str, answer: str, reward: float) -> None:
    assert judged(json_schema.build_scorer({"text": schema}), answer) == reward


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        pytest.param("{", "the schema is not valid JSON", id="no-json"),
        pytest.param("[]", "a schema must be an object, true or false, not []", id="a-list"),
        pytest.param('{"type": "text"}', "not a JSON schema, at type: 'text'", id="no-schema"),
        pytest.param(
            '{"items": {"$ref": "https://a.test/x.json"}}',
            "$ref https://a.test/x.json is not in the schema, and is not fetched; add it under $defs",
            id="of-elsewhere",
        ),
        pytest.param('{"$ref": "file:///etc/passwd"}', "file:///etc/passwd is not in the", id="a-file"),
        pytest.param('{"$ref": "#/$defs/x"}', "$ref #/$defs/x is not in the schema", id="no-such-part"),
    ],
)
def test_what_is_no_json_schema_is_refused(schema: str, said: str) -> None:
    with pytest.raises(UserMistake) as refused:
        json_schema.build_scorer({"text": schema, "field": "reward.functions[0].jsonSchema.text"})
    assert str(refused.value).startswith("reward.functions[0].jsonSchema.text: ")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "reference", "reward"),
    [
        pytest.param("so it is $\\frac{1}{2}$", "0.5", 1.0, id="a-fraction"),
        pytest.param("\\boxed{(x+1)^2}", "x^2+2x+1", 1.0, id="expanded"),
        pytest.param("it is 72", 72, 1.0, id="a-number-as-reference"),
        pytest.param("it is 71", "72", 0.0, id="another"),
        pytest.param("no idea", "$72$", 0.0, id="none"),
        pytest.param("$\\{2,1\\}$", "\\{1,2\\}", 1.0, id="a-set"),
        pytest.param(
            "5", "", "the reference answer '' has no mathematical expression", id="an-empty-reference"
        ),
        pytest.param(
            "5", None, "the reference answer None has no mathematical expression", id="no-reference"
        ),
    ],
)
def test_math_verify(answer: str, reference: Any, reward: float | str) -> None:
    assert judged(math_equality.build_scorer({"column": "answer"}), answer, answer=reference) == reward


def test_a_reason_of_what_is_built_in_is_told_as_it_is() -> None:
    assert parse_rewards([NoReward("why"), 1], 2) == ["why", 1.0]
