"""What a function of one's own is called with, and what is seen of it beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_trainer.errors import UserMistake
from footplate_trainer.rewards.checks import check_functions, worker_setup
from footplate_trainer.rewards.scorers import open_scorer, to_json
from tests.support.rewards.samples import reward, sample

HERE = __name__
MESSAGES = [{"role": "user", "content": "How much is 2 + 3?"}]
given: dict[str, Any] = {}


def takes_all(**columns: Any) -> list[float]:
    given.update(columns)
    return [0.0] * len(columns["texts"])


def takes_two(completions: list[Any], answer: list[Any]) -> list[float]:
    given.update(completions=completions, answer=answer)
    return [0.0] * len(answer)


def by_place(texts: list[str], /) -> list[float]:
    return [0.0] * len(texts)


def with_default(texts: list[str], strictness: float = 0.5) -> list[float]:
    return [strictness] * len(texts)


class Judge:
    """A function may be an object."""

    def __call__(self, texts: list[str]) -> list[float]:
        return [7.0] * len(texts)


judge = Judge()


def call(name: str, *batch: Any, columns: tuple[str, ...] = ("answer",)) -> object:
    given.clear()
    own = open_scorer({"kind": "function", "name": f"{HERE}:{name}", "field": "f", "columns": columns})
    return own([to_json(each_sample) for each_sample in batch])


def test_names_are_those_of_trl_and_the_columns() -> None:
    call("takes_all", sample("5", 3, answer="5", level=2), sample("6", 4), columns=("answer", "level"))
    assert given == {
        "prompts": ["prompt 3", "prompt 4"],
        "completions": ["5", "6"],
        "prompt_ids": [[3], [4]],
        "completion_ids": [[53], [54]],
        "texts": ["5", "6"],
        "ends": ["end", "end"],
        "answer": ["5", None],
        "level": [2, None],
    }


def test_a_conversation_is_given_as_messages() -> None:
    call("takes_all", sample("5", prompt=MESSAGES))
    assert given["prompts"] == [MESSAGES]
    assert given["completions"] == [[{"role": "assistant", "content": "5"}]]
    assert given["texts"] == ["5"]


def test_a_conversation_is_told_once_and_is_a_column_as_well() -> None:
    asked = sample("5", prompt=MESSAGES, answer="5")
    assert to_json(asked)["columns"] == {"answer": "5"}
    call("takes_all", asked, columns=("answer", "prompt"))
    assert given["prompts"] == given["prompt"] == [MESSAGES]


def test_only_what_a_function_takes_is_given() -> None:
    call("takes_two", sample("5", answer="5", level=2), columns=("answer", "level"))
    assert given == {"completions": ["5"], "answer": ["5"]}


def test_a_default_stands_where_no_column_is_of_its_name() -> None:
    assert call("with_default", sample("5")) == [0.5]


def test_an_object_may_be_called() -> None:
    assert call("judge", sample("5")) == [7.0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("by_place", "takes texts as positional-only; remove the / after it", id="by-place"),
        pytest.param(
            "takes_two", "requires answer, which is neither passed by a rollout", id="no-such-column"
        ),
        pytest.param("given", "is dict, not a function", id="no-function"),
    ],
)
def test_what_cannot_be_called_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserMistake) as refused:
        call(name, columns=())
    assert str(refused.value).startswith(f"f {HERE}:{name} ") and said in str(refused.value)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        pytest.param(
            reward("n", number={}),
            "reward.functions[1].column answer: not a column of the prompts, which have level, solution; set "
            "the column of the reference answer",
            id="number",
        ),
        pytest.param(reward("m", mathVerify={}, column="x"), "reward.functions[1].column x: ", id="math"),
        pytest.param(
            reward("l", length={"tokens": 64}),
            "reward.functions[1].length.tokens 64 is not below rollout.maxTokens 64",
            id="length",
        ),
    ],
)
def test_what_the_prompts_do_not_have_is_refused(function: Any, said: str) -> None:
    with pytest.raises(UserMistake) as refused:
        check_functions([reward("first", length={}), function], ["solution", "level"], max_tokens=64)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(reward("n", number={}, column="solution"), id="number"),
        pytest.param(reward("p", regularExpression={"pattern": "x"}), id="no-reference-needed"),
        pytest.param(reward("f", function={"name": "a:b"}), id="own"),
        pytest.param(reward("l", length={"tokens": 63}), id="length"),
    ],
)
def test_what_goes_with_the_prompts(function: Any) -> None:
    check_functions([function], ["solution"], max_tokens=64)


def test_what_is_computed_at_once_has_no_process() -> None:
    functions = [reward("n", number={}), reward("l", length={}), reward("m", mathVerify={})]
    assert [worker_setup(function, 0, []) is None for function in functions] == [True, True, False]
