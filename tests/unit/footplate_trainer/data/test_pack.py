"""`pack` as a function: what stands in the folder afterwards."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import ByteLevel

from footplate_contracts.names import ExitCode
from footplate_trainer.commands.pack import add_arguments, run
from footplate_trainer.data.layout import ShardManifest, SpecialIds, SpecialTokenRole
from footplate_trainer.data.pack import _learning_texts, pack
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.tokenizer import PIECE, RESERVED
from footplate_trainer.storage import open_storage


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"the {number} cats sat on the {number} mats\n" * (number + 1))
    (folder / "image.png").write_bytes(b"\x89PNG\0")
    return folder


def run_with(arguments: Sequence[str | Path]) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(argument) for argument in arguments]))


def test_every_document_comes_back_out(text: Path, tmp_path: Path) -> None:
    manifest = pack([str(text)], tmp_path / "out", vocabulary_size=400, shard_tokens=30)
    shards = TokenShards.open(str(tmp_path / "out"), verify=(0, 1))
    tokenizer = Tokenizer.from_file(str(shards.tokenizer_path))
    for index in range(shards.documents):
        ids = shards.read(*shards.document_span(index)).tolist()
        assert ids[-1] == manifest.special_ids.eos
        assert tokenizer.decode(ids[:-1]) == (text / f"{index}.txt").read_text()
    assert len(manifest.shards) > 1


def test_the_manifest_says_what_is_there(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = pack([str(text)], out, vocabulary_size=370, shard_tokens=30, seed=3)
    assert manifest == ShardManifest.from_json(json.loads((out / "manifest.json").read_text()))
    assert (manifest.dtype, manifest.vocabulary_size) == ("uint16", 370)
    assert (manifest.documents, manifest.seed) == (6, 3)
    [source] = manifest.sources
    assert (source.input, source.documents, source.skipped) == (str(text), 6, 1)
    records = [*manifest.shards, *(shard.offsets for shard in manifest.shards), manifest.tokenizer]
    assert {record.file for record in records} | {"manifest.json"} == {path.name for path in out.iterdir()}
    for record in records:
        content = (out / record.file).read_bytes()
        assert (record.bytes, record.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert max(np.fromfile(out / shard.file, "<u2").max() for shard in manifest.shards) < 370


def test_the_same_tokenizer_gives_the_same_tokens(text: Path, tmp_path: Path) -> None:
    first = pack([str(text)], tmp_path / "one", vocabulary_size=400)
    tokenizer = tmp_path / "one" / "tokenizer.json"
    second = pack([str(text)], tmp_path / "two", vocabulary_size=400, tokenizer=tokenizer)
    assert (first.shards, first.special_ids) == (second.shards, second.special_ids)


def brought(folder: Path, *special: str) -> Path:
    """A tokenizer.json of bytes and `special` tokens."""
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(ByteLevel.alphabet())}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(folder / "brought.json"))
    return folder / "brought.json"


def test_a_brought_tokenizer_is_as_large_as_it_is(text: Path, tmp_path: Path) -> None:
    tokenizer = brought(tmp_path, "<|endoftext|>", "<|im_end|>")
    manifest = pack([str(text)], tmp_path / "one", tokenizer=tokenizer)
    assert (manifest.vocabulary_size, manifest.special_ids) == (258, SpecialIds(eos=256))
    options = ["--special-token", "eos=<|im_end|>", "--reserve", "mask", "--reserve", "eos"]
    assert run_with([text, tmp_path / "two", "--tokenizer", tokenizer, *options]) == ExitCode.SUCCESS
    shards = TokenShards.open(str(tmp_path / "two"))
    assert (shards.vocabulary_size, shards.special) == (259, SpecialIds(eos=257, mask=258))
    assert shards.document(0)[-1] == 257
    assert run_with([text, tmp_path / "all", "--tokenizer", tokenizer, "--reserve=all"]) == ExitCode.SUCCESS
    assert TokenShards.open(str(tmp_path / "all")).vocabulary_size == 258 + RESERVED - 1


def test_a_tokenizer_without_an_end_is_refused_unless_one_is_named_or_added(
    text: Path, tmp_path: Path
) -> None:
    tokenizer = brought(tmp_path, "<|im_end|>")
    with pytest.raises(
        ValueError,
        match=r"no token that ends a text, such as <eos>, </s>.* --special-token eos=TOKEN, or .* "
        r"--reserve eos",
    ):
        pack([str(text)], tmp_path / "out", tokenizer=tokenizer)
    assert (
        pack(
            [str(text)], tmp_path / "out", tokenizer=tokenizer, reserve=[SpecialTokenRole.EOS]
        ).vocabulary_size
        == 258
    )
    end = {SpecialTokenRole.EOS: "<|im_end|>"}
    assert pack([str(text)], tmp_path / "named", tokenizer=tokenizer, named=end).vocabulary_size == 257


@pytest.mark.parametrize("option", ["sentinels=x", "eos=", "eos", "end=x"])
def test_what_names_no_token_of_a_role_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_with(["text", "out", "--special-token", option])
    assert f"{option!r} is not ROLE=TOKEN with a role of pad, bos, eos, unk" in capsys.readouterr().err


def test_a_learned_tokenizer_wants_a_size_and_nothing_else(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with([text, tmp_path / "out"]) == ExitCode.CONFIG
    assert "--vocabulary-size is missing: " in capsys.readouterr().err
    for option in ("--special-token=eos=x", "--reserve=eos"):
        assert run_with([text, tmp_path / "out", "--vocabulary-size=400", option]) == ExitCode.CONFIG
        assert (
            "--reserve and --special-token need --tokenizer; a learned tokenizer" in capsys.readouterr().err
        )


@pytest.mark.parametrize(
    ("source", "out", "options", "named"),
    [
        pytest.param("text", "out", ["--vocabulary-size=100"], "pass 363 or more", id="vocabulary"),
        pytest.param("no", "out", [], "no is not a file or folder", id="input"),
        pytest.param("text", "text", [], "is not empty", id="output"),
        pytest.param("text/image.png", "out", [], r"no text in .*image\.png", id="no-text"),
        pytest.param("text", "out", ["--shard-tokens=0"], "0 must be at least 1", id="shard-tokens"),
    ],
)
def test_a_mistake_ends_with_one_line_and_leaves_nothing(
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    out: str,
    options: list[str],
    named: str,
) -> None:
    arguments = [tmp_path / source, tmp_path / out, "--vocabulary-size=400", *options]
    assert run_with(arguments) == ExitCode.CONFIG
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("footplate-trainer pack: ")
    assert not [line for line in lines if "Traceback" in line]
    assert re.search(named, lines[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_success_says_what_was_written(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with([text, tmp_path / "out", "--vocabulary-size", "90000"]) == ExitCode.SUCCESS
    shown = capsys.readouterr().out
    assert "of 6 documents in 1 shard(s)" in shown
    assert "skipped 1 inputs" in shown
    assert "of the 90000 requested ids" in shown


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([f"{number:10}" for number in range(2000)], id="many-documents"),
        pytest.param(["x" * PIECE * 400], id="one-document"),
    ],
)
def test_a_huge_corpus_is_learned_from_in_part_and_the_same_part_each_time(texts: list[str]) -> None:
    total = sum(map(len, texts))
    seen: list[int] = []
    first = list(_learning_texts(texts, total, 1, total // 4, seen.append))
    assert 0.2 * total < sum(map(len, first)) < 0.3 * total
    assert sum(seen) == sum(map(len, first))
    assert list(_learning_texts(texts, total, 1, total // 4, seen.append)) == first
    assert "".join(_learning_texts(texts, total, 1, total, seen.append)) == "".join(texts)


def test_shards_may_be_written_elsewhere(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"memory://{uuid.uuid4().hex}/shards"
    arguments = [text, place, "--vocabulary-size", "400", "--shard-tokens", "30"]
    assert run_with(arguments) == ExitCode.SUCCESS
    assert f"{place}: " in capsys.readouterr().out
    pack([str(text)], tmp_path / "out", vocabulary_size=400, shard_tokens=30)
    written = {stored.name: open_storage(place).read(stored.name) for stored in open_storage(place).list()}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert run_with(arguments) == ExitCode.CONFIG
    assert f"OUT {place} is not empty" in capsys.readouterr().err


def test_what_cannot_be_packed_leaves_nothing_elsewhere(tmp_path: Path) -> None:
    place = f"memory://{uuid.uuid4().hex}/shards"
    (tmp_path / "empty.txt").touch()
    assert run_with([tmp_path / "empty.txt", place, "--vocabulary-size", "400"]) == ExitCode.CONFIG
    assert open_storage(place).list() == []
