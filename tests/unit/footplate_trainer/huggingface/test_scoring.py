"""Reward models as transformers keeps them: which folder is one, what pads, what is said of scores."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models

from footplate_trainer.checkpoint.training_state import HeldOutScores
from footplate_trainer.huggingface.saved_processors import SavedProcessors
from footplate_trainer.huggingface.sequence_classification import (
    PaddingToken,
    SequenceClassification,
    find_padding_token,
    label_count,
    read_held_out_scores,
)


def tokenizer(*special: str) -> Tokenizer:
    made = Tokenizer(models.WordLevel({"word": 0, "other": 1}, unk_token="word"))
    made.add_special_tokens([AddedToken(token, special=True) for token in special])
    return made


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        pytest.param({"architectures": ["LlamaForCausalLM"]}, 0, id="language-model"),
        pytest.param({}, 0, id="says-nothing"),
        pytest.param(
            {"architectures": ["GPT2ForSequenceClassification"], "id2label": {"0": "a"}}, 1, id="reward"
        ),
        pytest.param({"architectures": ["LlamaForSequenceClassification"]}, 2, id="transformers-default"),
        pytest.param(
            {"architectures": ["LlamaForSequenceClassification"], "num_labels": 1}, 1, id="by-number"
        ),
        pytest.param({"architectures": "LlamaForSequenceClassification"}, 0, id="no-list"),
    ],
)
def test_a_folder_says_how_many_scores_it_gives(config: dict[str, Any], labels: int) -> None:
    assert label_count(config) == labels


@pytest.mark.parametrize(
    ("special", "said", "ends", "expected"),
    [
        pytest.param(("<pad>", "</s>"), (2, "<pad>"), {3}, PaddingToken("<pad>", 2), id="its-own"),
        pytest.param(
            ("<s>", "</s>"), (3, "</s>"), {3}, PaddingToken("<s>", 2), id="another-where-its-own-ends-texts"
        ),
        pytest.param(
            ("</s>", "<unk>", "<s>"), (2, None), {2}, PaddingToken("<unk>", 3), id="a-well-known-one-first"
        ),
        pytest.param((), (None, None), set(), None, id="none"),
        pytest.param(("</s>",), (None, None), {2}, PaddingToken("</s>", 2, True), id="only-an-end"),
        pytest.param(
            ("</s>", "<pad>"), (99, "<pad>"), {2}, PaddingToken("<pad>", 3), id="beyond-the-vocabulary"
        ),
    ],
)
def test_padding_ends_no_text(
    special: tuple[str, ...],
    said: tuple[int | str | None, ...],
    ends: set[int],
    expected: PaddingToken | None,
) -> None:
    assert find_padding_token(said, tokenizer(*special), frozenset(ends), 10) == expected


def test_what_is_said_of_scores_comes_back() -> None:
    scores = HeldOutScores(mean=0.25, deviation=1.5)
    said = SequenceClassification(PaddingToken("<pad>", 2), scores).settings(
        {"architectures": ["GPT2LMHeadModel"]}
    )
    assert said["architectures"] == ["GPT2ForSequenceClassification"] and said["pad_token_id"] == 2
    assert label_count(said) == 1 and read_held_out_scores(said) == scores
    assert read_held_out_scores({"mean": None}) is None


def test_padding_is_named_where_a_tokenizer_looks_for_it() -> None:
    files = {"tokenizer_config.json": b'{"pad_token": "</s>"}', "special_tokens_map.json": b"{}"}
    processors = SavedProcessors(files)
    assert processors.export_files(10, "</s>") == files
    changed = processors.export_files(10, "<s>")
    assert [b'"pad_token": "<s>"' in content for content in changed.values()] == [True, True]
