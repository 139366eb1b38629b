"""What shards of prompts say of answers to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.prompt_dataset import PromptDataset, PromptOrder
from footplate_trainer.data.shards import TokenShards
from tests.support.chat import chatml_model, user
from tests.support.stages import pack_conversations


def packed(model: Path, row: dict[str, Any], out: Path) -> TokenShards:
    """Of one row."""
    source = out.with_suffix(".jsonl")
    source.write_text(json.dumps(row))
    return TokenShards.open(str(pack_conversations(source, out, model, format=RecordKind.PROMPTS)))


def test_an_end_of_a_turn_that_no_file_calls_special_is_one(tmp_path: Path) -> None:
    model = chatml_model(tmp_path / "model")
    file = model / "tokenizer.json"
    said = json.loads(file.read_text())
    for token in said["added_tokens"]:
        token["special"] &= token["content"] != "<|im_end|>"
    file.write_text(json.dumps(said))
    record, tokens = (
        packed(model, {"prompt": [user("a")]}, tmp_path / "out").manifest.samples,
        Tokenizer.from_file(str(file)),
    )
    assert not tokens.get_added_tokens_decoder()[tokens.token_to_id("<|im_end|>")].special
    assert record is not None
    assert record.turn_end == [tokens.token_to_id("<|im_end|>"), *tokens.encode("\n").ids]


def test_prompts_after_which_the_context_ends_answers_are_told(tmp_path: Path) -> None:
    shards = packed(chatml_model(tmp_path / "model"), {"prompt": [user("a")]}, tmp_path / "out")
    context = shards.tokens + 8
    order = PromptOrder(PromptDataset(shards, context), seed=0)
    assert order.truncation_warning(8) == ""
    assert order.truncation_warning(9).startswith(
        "1 of 1 prompts leave an answer less than rollout.maxTokens 9 of model.contextLength"
        f" {context}, one of them 8; "
    )


def test_a_reward_model_needs_room_behind_an_answer_and_to_know_for_what(tmp_path: Path) -> None:
    model = chatml_model(tmp_path / "model")
    shards = packed(model, {"prompt": [user("a")]}, tmp_path / "out")
    longest = shards.tokens
    PromptDataset(shards, longest + 2).check_answer_capacity()
    with pytest.raises(ValueError, match=f"a prompt of {longest} tokens, and the template writes 1 more"):
        PromptDataset(shards, longest + 1).check_answer_capacity()
    PromptDataset(shards, longest + 3).check_answer_capacity(closing=1)
    with pytest.raises(ValueError, match="and the template writes 2 more"):
        PromptDataset(shards, longest + 2).check_answer_capacity(closing=1)
    as_an_earlier_release(tmp_path / "out")
    with pytest.raises(ValueError, match=r"an earlier release packed it.*pack the prompts again"):
        PromptDataset(TokenShards.open(str(tmp_path / "out")), 256).check_answer_capacity()
    packed(model, {"prompt": "a text"}, tmp_path / "texts")
    as_an_earlier_release(tmp_path / "texts")
    texts = TokenShards.open(str(tmp_path / "texts"))
    PromptDataset(texts, texts.tokens + 1).check_answer_capacity()  # no template wrote any of them


def as_an_earlier_release(folder: Path) -> None:
    """It did not say what a template writes behind an answer."""
    manifest = folder / "manifest.json"
    older = json.loads(manifest.read_text())
    del older["samples"]["turnEnd"]
    manifest.write_text(json.dumps(older))
