"""The files beside weights: which are taken along, what they say, and of which tokenizer it is true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from footplate_trainer.checkpoint.layout import Manifest, processor_name
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.errors import CheckpointDamaged
from footplate_trainer.huggingface.saved_processors import (
    SavedProcessors,
    checkpoint_processors,
    read_processors,
    tokenizer_mismatch,
)
from tests.support.chat import saved_processors, word_tokenizer

TOKENIZER = "tokenizer_config.json"


def test_what_lies_beside_weights_is_taken_as_it_is() -> None:
    folder = {
        "config.json": b'{"eos_token_id":  2}',
        "chat_template.jinja": b"{{ messages }}",
        "generation_config.json": b"{}",
        "additional_chat_templates/rag.jinja": b"{{ documents }}",
        "additional_chat_templates/notes.txt": b"no template",
        "tokenizer.json": b"{}",
        "preprocessor_config.json": b"{}",
        "model.safetensors": b"",
    }

    found = read_processors(folder.get, ["rag.jinja", "notes.txt", "../config.jinja"])

    assert sorted(found.files) == [
        "additional_chat_templates/rag.jinja",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
    ]
    assert all(folder[name] == content for name, content in found.files.items())
    assert {
        processor_name(file): content for file, content in found.checkpoint_files().items()
    } == found.files
    assert processor_name("tokenizer.json") is None


@pytest.fixture
def kept(tmp_path: Path) -> StepCheckpoint:
    """A step directory with two processors, and with files that are none."""
    store, directory = CheckpointStore(tmp_path), "step-2.e1g2"
    names = (
        "config.json",
        "chat_template.jinja",
        "mood.json",
        "../out.jinja",
        "additional_chat_templates/a/b.jinja",
    )
    content = {"run.json": b"{}", **{f"processors/{name}": b"{}" for name in names}}
    files = [store.write(directory, name, content[name]) for name in content]
    store.write(directory, "manifest.json", json.dumps(Manifest(format=1, files=files).to_json()).encode())
    return StepCheckpoint(store, directory)


def test_a_checkpoint_gives_what_this_release_knows(kept: StepCheckpoint) -> None:
    assert checkpoint_processors(kept).files == {"config.json": b"{}", "chat_template.jinja": b"{}"}


def test_a_processor_that_was_changed_is_damage(kept: StepCheckpoint) -> None:
    assert isinstance(kept.store, CheckpointStore)
    kept.store.write(kept.directory, "processors/config.json", b"[]")

    with pytest.raises(
        CheckpointDamaged, match=r"processors/config\.json in .* has changed since it was written"
    ):
        checkpoint_processors(kept)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        pytest.param(TOKENIZER, b"{", "tokenizer_config.json is not valid JSON: ", id="cut-off"),
        pytest.param(TOKENIZER, b"\xff", "tokenizer_config.json is not valid JSON: ", id="no-text"),
        pytest.param(
            TOKENIZER,
            b"[]",
            "tokenizer_config.json is a list; must be an object of settings",
            id="a-list",
        ),
        pytest.param("chat_template.jinja", b"\xff", "chat_template.jinja is not UTF-8", id="template"),
    ],
)
def test_a_file_that_is_something_else_is_named(name: str, content: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_processors({name: content}.get)


@pytest.mark.parametrize(
    ("found", "template"),
    [
        pytest.param(
            saved_processors(chat_template="A", tokenizer_config={"chat_template": "B"}), "A", id="file-first"
        ),
        pytest.param(saved_processors(tokenizer_config={"chat_template": "B"}), "B", id="setting"),
        pytest.param(
            saved_processors(
                tokenizer_config={
                    "chat_template": [{"name": "rag", "template": "C"}, {"name": "default", "template": "D"}]
                }
            ),
            "D",
            id="named",
        ),
        pytest.param(
            saved_processors(tokenizer_config={"chat_template": [{"name": "rag", "template": "C"}]}),
            None,
            id="no-default",
        ),
        pytest.param(
            SavedProcessors({"chat_template.json": b'{"chat_template": "E"}'}), "E", id="of-a-processor"
        ),
        pytest.param(saved_processors(generation_config={}), None, id="none"),
    ],
)
def test_the_template_is_found_where_transformers_finds_it(
    found: SavedProcessors, template: str | None
) -> None:
    assert found.chat_template() == template


def test_roles_are_read_from_both_files() -> None:
    found = saved_processors(
        tokenizer_config={"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None, "x": "y"},
        special_tokens_map={"pad_token": "<pad>", "additional_special_tokens": ["<a>"]},
    )

    assert found.special_tokens() == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


@pytest.mark.parametrize(
    ("longest", "written"),
    [
        pytest.param(8192, 64, id="longer-than-the-model"),
        pytest.param(32, 32, id="shorter"),
        pytest.param(10**30, 10**30, id="no-limit"),
        pytest.param(None, None, id="not-said"),
    ],
)
def test_no_longer_text_is_promised_than_the_model_takes(longest: int | None, written: int | None) -> None:
    said = {"tokenizer_class": "A"} | ({} if longest is None else {"model_max_length": longest})
    found = saved_processors(tokenizer_config=said, config={"eos_token_id": 2}, chat_template="T")

    files = found.export_files(64)

    assert sorted(files) == ["chat_template.jinja", TOKENIZER]
    assert json.loads(files[TOKENIZER]).get("model_max_length") == written
    assert (files[TOKENIZER] == found.files[TOKENIZER]) == (longest == written)


OURS = word_tokenizer(a=0, b=1, END=2, MORE=3)


@pytest.mark.parametrize(
    ("found", "theirs", "wrong"),
    [
        pytest.param(saved_processors(), OURS, None, id="the-same"),
        pytest.param(saved_processors(), word_tokenizer(a=0, b=1, END=2), None, id="ours-has-more"),
        pytest.param(
            saved_processors(),
            word_tokenizer(a=0, b=2, END=1),
            "'END' is token 1, but 2 in the data",
            id="another-order",
        ),
        pytest.param(
            saved_processors(),
            word_tokenizer(a=0, END=2, c=1),
            "'c' is token 1, but none in the data",
            id="another-word",
        ),
        pytest.param(
            saved_processors(
                tokenizer_config={"eos_token": "END", "added_tokens_decoder": {"2": {"content": "END"}}}
            ),
            None,
            None,
            id="by-settings",
        ),
        pytest.param(
            saved_processors(tokenizer_config={"added_tokens_decoder": {"3": {"content": "END"}}}),
            None,
            "'END' is token 3, but 2 in the data",
            id="another-id-by-settings",
        ),
        pytest.param(
            saved_processors(added_tokens={"END": 9}),
            None,
            "'END' is token 9, but 2 in the data",
            id="by-added-tokens",
        ),
        pytest.param(
            saved_processors(tokenizer_config={"eos_token": "STOP"}),
            None,
            "'STOP' is not a token of the data",
            id="lost-by-name",
        ),
        pytest.param(
            saved_processors(tokenizer_config={"pad_token": "PAD"}), OURS, None, id="a-name-that-it-lacks-too"
        ),
    ],
)
def test_settings_of_another_tokenizer_are_told(
    found: SavedProcessors, theirs: Tokenizer | None, wrong: str | None
) -> None:
    beside = None if theirs is None else theirs.to_str().encode()

    assert tokenizer_mismatch(found, beside, OURS.to_str().encode()) == wrong


def test_a_tokenizer_that_cannot_be_read_is_told() -> None:
    wrong = tokenizer_mismatch(saved_processors(), b"version https://git-lfs", OURS.to_str().encode())

    assert wrong is not None and wrong.startswith("cannot read its tokenizer.json: ")
