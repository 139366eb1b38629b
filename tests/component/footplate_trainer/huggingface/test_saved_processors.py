"""What lay beside the weights of an imported folder goes through checkpoints and out again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig, World
from footplate_contracts.v1alpha1.adapter import Adapter
from footplate_contracts.v1alpha1.compute import ResumeFrom
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.pack import pack
from footplate_trainer.huggingface.export import export_checkpoint
from footplate_trainer.huggingface.saved_processors import checkpoint_processors
from footplate_trainer.manifest.run_file import read_run
from tests.support.chat_model import CONTEXT, CONVERSATION, ROWS, TURN_END, write_chat_model
from tests.support.ranks import run_ranks
from tests.support.s3 import s3_server
from tests.support.tiny import tiny_manifest
from tests.support.training import FakeAgent, train_under

TEXT = "What is 2 plus 3? It is"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model's, which names as its second end the third id with which it goes on from TEXT."""
    place = write_chat_model(tmp_path_factory.mktemp("chat") / "model", [TURN_END])
    third = greedy(place, plain(place))[2]
    return write_chat_model(place, [TURN_END, third], do_sample=True, temperature=0.7, top_p=0.9)


@pytest.fixture(scope="module")
def chat_shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text in the model's own tokens."""
    place = tmp_path_factory.mktemp("chat-data")
    (place / "text.txt").write_text(f"{TEXT} 5. " * 400)
    tokenizer = folder / "tokenizer.json"
    pack([str(place / "text.txt")], place / "shards", vocabulary_size=ROWS, tokenizer=tokenizer)
    return place / "shards"


def chat(folder: Path) -> Tensor:
    """The ids of a conversation that the model is to answer, [1, length]."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(CONVERSATION, add_generation_prompt=True, return_tensors="pt")
    ids: Tensor = asked["input_ids"]
    return ids


def plain(folder: Path) -> Tensor:
    """The ids of TEXT, [1, length]."""
    ids: Tensor = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")["input_ids"]
    return ids


def greedy(folder: Path, asked: Tensor) -> list[int]:
    """At most ten ids with which transformers goes on, by the folder's own settings but for chance."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    answered = model.generate(asked, do_sample=False, max_new_tokens=10, temperature=None, top_p=None)
    ids: list[int] = answered[0, asked.shape[1] :].tolist()
    return ids


def config_from(folder: Path, shards: Path, scratch: Path, checkpoints: str, steps: int) -> RunConfig:
    """So short, and with so small a learning rate, that the weights stay where they are."""
    manifest = tiny_manifest(shards, scratch)
    manifest["spec"] |= {"model": {"contextLength": CONTEXT}, "initFrom": {"uri": str(folder)}}
    manifest["spec"]["training"] |= {"steps": steps, "schedule": {}}
    manifest["spec"]["training"]["optimizer"] = {"learningRate": 1e-12}
    manifest["spec"]["checkpoint"]["uri"] = checkpoints
    (scratch / "run.json").write_text(json.dumps(manifest))
    return read_run(scratch / "run.json").config(World())


def settings(folder: Path) -> dict[str, Any]:
    """All that transformers knows of a folder's tokenizer and of generating text with it."""
    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    return {
        "template": tokenizer.chat_template,
        "conversation": tokenizer.apply_chat_template(CONVERSATION, tokenize=True, return_dict=True),
        "special tokens": tokenizer.special_tokens_map,
        "class": type(tokenizer),
        "length": tokenizer.model_max_length,
        "positions": config.max_position_embeddings,
        "side": tokenizer.padding_side,
        "generation": GenerationConfig.from_pretrained(folder).to_dict(),
        "ids": (config.bos_token_id, config.eos_token_id, config.pad_token_id),
    }


@pytest.fixture(scope="module")
def begun(folder: Path, chat_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of one step of a run that began with `folder`, in a place from which it is gone since."""
    place = tmp_path_factory.mktemp("begun")
    imported = shutil.copytree(folder, place / "imported")
    config = config_from(imported, chat_shards, place, str(place / "checkpoints"), steps=1)
    assert [ended.code for ended in run_ranks(train_under, 2, FakeAgent(), config)] == [0, 0]
    shutil.rmtree(imported)
    return place / "checkpoints"


def test_a_chat_model_goes_in_and_out(
    folder: Path, chat_shards: Path, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = str(shutil.copytree(begun, tmp_path / "checkpoints"))
    config = config_from(begun.parent / "imported", chat_shards, tmp_path, checkpoints, steps=2)

    ended = run_ranks(train_under, 1, FakeAgent(), config)[0]

    assert ended.code == ExitCode.SUCCESS, ended.stderr
    assert [row.step for row in ended.agent.rows] == [2]
    assert main(("export", checkpoints, str(tmp_path / "out"))) == ExitCode.SUCCESS
    told = capsys.readouterr().out
    assert told.endswith(
        "-> " + str(tmp_path / "out") + ": model.safetensors, tokenizer.json, "
        "additional_chat_templates/tool_use.jinja, chat_template.jinja, generation_config.json, "
        "tokenizer_config.json, config.json\n"
    )
    assert settings(tmp_path / "out") == settings(folder)
    assert greedy(tmp_path / "out", chat(folder)) == greedy(folder, chat(folder))


def test_adapters_alone_chat_as_the_folder_does(
    folder: Path, chat_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_from(folder, chat_shards, tmp_path, str(tmp_path / "checkpoints"), steps=1)
    adapted = config.model.model_copy(update={"adapter": Adapter(rank=2, alpha=4.0)})

    ended = run_ranks(train_under, 1, FakeAgent(), config.model_copy(update={"model": adapted}))[0]

    assert ended.code == ExitCode.SUCCESS, ended.stderr
    out = tmp_path / "out"
    assert main(("export", "--adapter", str(tmp_path / "checkpoints"), str(out))) == ExitCode.SUCCESS
    assert capsys.readouterr().out.endswith(
        f"-> {out}: adapter_model.safetensors, adapter_config.json, tokenizer.json, "
        "additional_chat_templates/tool_use.jinja, chat_template.jinja, generation_config.json, "
        "tokenizer_config.json\n"
    )
    assert chat(out).tolist() == chat(folder).tolist()
    assert (
        GenerationConfig.from_pretrained(out).to_dict() == GenerationConfig.from_pretrained(folder).to_dict()
    )


def test_generating_stops_at_the_second_end_too(
    folder: Path, begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(("generate", str(begun), TEXT, "--temperature", "0", "--max-new-tokens", "10"))
        == ExitCode.SUCCESS
    )

    tokenizer, added = AutoTokenizer.from_pretrained(folder), greedy(folder, plain(folder))
    assert len(added) == 3, "transformers shows the end"
    shown = plain(folder)[0].tolist() + added[:2]
    assert capsys.readouterr().out == tokenizer.decode(shown) + "\n"


def test_they_are_proven_whole_like_all_of_a_checkpoint(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = shutil.copytree(begun, tmp_path / "checkpoints")
    (step,) = checkpoints.glob("step-*/")
    (step / "processors" / "generation_config.json").write_text('{"eos_token_id": 1}')

    assert main(("verify", str(checkpoints))) == ExitCode.STORAGE
    assert f"{step.name}/processors/generation_config.json has 19 bytes" in capsys.readouterr().out
    assert main(("export", str(checkpoints), str(tmp_path / "out"))) == ExitCode.CONFIG


def test_a_run_that_goes_on_with_anothers_weights_keeps_them(
    folder: Path, chat_shards: Path, begun: Path, tmp_path: Path
) -> None:
    config = config_from(folder, chat_shards, tmp_path, str(tmp_path / "checkpoints"), steps=1)
    (written,) = [StepCheckpoint(CheckpointStore(begun), path.name) for path in begun.glob("step-*/")]
    successor = config.model_copy(
        update={
            "run": config.run.model_copy(update={"name": "successor"}),
            "model": written.config().model,
            "init_from": None,
            "resume_from": ResumeFrom(uri=str(begun)),
        }
    )

    ended = run_ranks(train_under, 1, FakeAgent(), successor)[0]

    assert ended.code == ExitCode.SUCCESS, ended.stderr
    kept = checkpoint_processors(find_newest_whole(str(tmp_path / "checkpoints")))
    assert kept.files == checkpoint_processors(written).files
    assert all((folder / name).read_bytes() == content for name, content in kept.files.items())


def test_they_lie_in_a_bucket_as_on_a_volume(
    folder: Path, chat_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server("bucket") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        uri = "s3://bucket/processors"
        config = config_from(folder, chat_shards, tmp_path, uri, steps=1)
        ended = run_ranks(train_under, 1, FakeAgent(), config, environment=environment)[0]

        assert ended.code == ExitCode.SUCCESS, ended.stderr
        assert main(("verify", uri)) == ExitCode.SUCCESS
        assert main(("export", uri, str(tmp_path / "out"))) == ExitCode.SUCCESS
    assert settings(tmp_path / "out") == settings(folder)


def test_those_of_another_tokenizer_are_left_out(folder: Path, shards: Path, tmp_path: Path) -> None:
    config = config_from(folder, shards, tmp_path, str(tmp_path / "checkpoints"), steps=1)

    ended = run_ranks(train_under, 1, FakeAgent(), config)[0]

    assert ended.code == ExitCode.SUCCESS, ended.stderr
    assert f"initFrom {folder}: skipping its chat template, special tokens and generation settings, as " in (
        ended.stderr
    )
    checkpoint = find_newest_whole(str(tmp_path / "checkpoints"))
    assert not checkpoint_processors(checkpoint).files
    exported = export_checkpoint(checkpoint, tmp_path / "out")
    assert exported == ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.chat_template, tokenizer.eos_token) == (None, "<eos>")


def test_a_file_that_is_none_ends_the_run_before_its_first_step(
    folder: Path, chat_shards: Path, tmp_path: Path
) -> None:
    torn = shutil.copytree(folder, tmp_path / "torn")
    (torn / "generation_config.json").write_text("{")
    config = config_from(torn, chat_shards, tmp_path, str(tmp_path / "checkpoints"), steps=1)

    for ended in run_ranks(train_under, 2, FakeAgent(), config):
        assert ended.code == ExitCode.CONFIG
        assert f"initFrom.uri {torn}: generation_config.json is not valid JSON: " in ended.stderr
