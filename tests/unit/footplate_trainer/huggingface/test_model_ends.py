"""With which tokens a model's answers end, by the files that came with it."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_trainer.huggingface.model_end_tokens import (
    ModelEndTokens,
    end_token_ids,
    find_end_tokens,
    with_chat_template,
)
from tests.support.chat import saved_processors, word_tokenizer

OURS = word_tokenizer(a=0, b=1, END=2, MORE=3)
CHAT = "{% for m in messages %}{{ m.content }}TURN{% endfor %}"


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        pytest.param({}, {1}, id="well-known-name"),
        pytest.param({"config": {"eos_token_id": 3}}, {3}, id="config"),
        pytest.param(
            {"config": {"eos_token_id": 3}, "generation_config": {"eos_token_id": [2, 4]}},
            {2, 3, 4},
            id="both",
        ),
        pytest.param({"tokenizer_config": {"eos_token": "END"}}, {2}, id="role"),
        pytest.param({"chat_template": CHAT}, {5}, id="turn"),
        pytest.param(
            {
                "chat_template": CHAT,
                "config": {"eos_token_id": 4, "pad_token_id": 0},
                "generation_config": {"eos_token_id": [3], "pad_token_id": 0},
                "special_tokens_map": {"eos_token": {"content": "END"}, "pad_token": "PAD"},
            },
            {2, 3, 4, 5},
            id="everywhere-but-padding",
        ),
        pytest.param({"generation_config": {"eos_token_id": None}}, {1}, id="nothing-said"),
    ],
)
def test_a_model_ends_at_all_that_came_with_it(files: dict[str, Any], ends: set[int]) -> None:
    known = word_tokenizer(**{"PAD": 0, "</s>": 1, "END": 2, "a": 3, "b": 4, "TURN": 5})

    assert end_token_ids(saved_processors(**files), known, rows=6) == ends


def test_ends_that_cannot_be_said_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    found = saved_processors(
        generation_config={"eos_token_id": [2, 99]}, tokenizer_config={"eos_token": "STOP"}
    )

    assert end_token_ids(found, OURS, rows=4) == {2}
    assert "skipping end-of-text tokens that this model does not have: 99, STOP" in caplog.text


def test_a_template_that_cannot_be_rendered_leaves_the_other_ends(caplog: pytest.LogCaptureFixture) -> None:
    found = saved_processors(chat_template="{{ messages[0].content.x.y }}", config={"eos_token_id": 2})

    assert end_token_ids(found, OURS, rows=4) == {2}
    assert (
        "the chat template has no end of a turn, as it renders no answer: chat template of the" in caplog.text
    )


@pytest.mark.parametrize(
    ("files", "template", "ends"),
    [
        pytest.param({"chat_template": CHAT, "config": {"eos_token_id": 2}}, None, {2: 0, 5: 1}, id="turn"),
        pytest.param(
            {"chat_template": CHAT}, CHAT.replace("TURN", "END"), {2: 1}, id="of-the-template-that-is-spoken"
        ),
        pytest.param({"tokenizer_config": {"eos_token": "END"}}, None, {2: 1}, id="role"),
        pytest.param({"config": {"eos_token_id": [5, 2]}}, None, {2: 1, 5: 0}, id="least"),
        pytest.param({}, None, {1: 1}, id="well-known-name"),
    ],
)
def test_one_of_the_ends_is_that_of_a_turn(
    files: dict[str, Any], template: str | None, ends: dict[int, int]
) -> None:
    known = word_tokenizer(**{"PAD": 0, "</s>": 1, "END": 2, "a": 3, "b": 4, "TURN": 5})
    [turn] = [end for end, is_turn in ends.items() if is_turn]
    assert find_end_tokens(saved_processors(**files), known, 6, template) == ModelEndTokens(
        frozenset(ends), turn
    )


def test_without_any_end_a_turn_has_none() -> None:
    assert find_end_tokens(saved_processors(), word_tokenizer(a=0), rows=1) == ModelEndTokens(
        frozenset(), None
    )


def test_a_model_that_came_with_no_template_talks_as_it_learns_to() -> None:
    bare = saved_processors(config={"eos_token_id": 1}, generation_config={"eos_token_id": 1, "top_k": 5})
    known = word_tokenizer(**{"a": 0, "</s>": 1, "TURN": 2})

    found = with_chat_template(bare, known, 3, CHAT)

    assert found.chat_template() == CHAT and found.settings("generation_config.json") == {
        "eos_token_id": [1, 2],
        "top_k": 5,
    }
    assert end_token_ids(found, known, rows=3) == {1, 2}
    assert with_chat_template(found, known, 3, "another") is found
