"""`footplate-trainer generate --prompts` writes the same file on any ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from footplate_contracts.names import ExitCode
from footplate_trainer.__main__ import main
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import train

LINES = ["abc", "abcd ef", "g", "hh ab", "abc"]
WIDE = ("training.steps=2", "model.initialization.standardDeviation=0.2")


@pytest.fixture(scope="module")
def checkpoint(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert run_ranks(train, 1, tiny_config(shards, folder, WIDE), None) == [0]
    return folder / "checkpoints"


def asked(checkpoint: Path, folder: Path, name: str, *more: str) -> tuple[str, ...]:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": line}) + "\n" for line in LINES))
    together = (
        "--prompts",
        str(prompts),
        "--output",
        str(folder / name),
        "--num-return-sequences",
        "3",
        "--max-new-tokens",
        "9",
    )
    return ("generate", str(checkpoint), *together, *more)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def check_equal(folder: Path, name: str) -> None:
    ours, theirs = rows(folder, name), rows(folder, "alone")
    assert len({tuple(row["tokens"]) for row in theirs}) > 8, "equal answers prove nothing"
    for mine, alone in zip(ours, theirs, strict=True):
        for key in ("logProbabilities", "sampledLogProbabilities"):
            assert mine.pop(key) == pytest.approx(alone.pop(key), abs=1e-5)
        assert mine == alone


def test_ranks_of_torchrun_write_what_one_process_does(checkpoint: Path, tmp_path: Path) -> None:
    assert main(asked(checkpoint, tmp_path, "alone")) == ExitCode.SUCCESS
    codes = run_ranks(main, 2, asked(checkpoint, tmp_path, "two", "--tensor", "2"))

    assert codes == [ExitCode.SUCCESS] * 2
    check_equal(tmp_path, "two")


@pytest.mark.long
@pytest.mark.parametrize(
    "degrees",
    [
        pytest.param(("--ranks", "4", "--tensor", "2", "--pipeline", "2"), id="tensor-and-pipeline"),
        pytest.param(("--ranks", "3"), id="three-copies"),
        pytest.param(("--ranks", "4", "--tensor", "4"), id="more-ranks-than-key-value-heads"),
    ],
)
def test_ranks_that_it_starts_itself_do_so_too(
    checkpoint: Path, tmp_path: Path, degrees: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(checkpoint, tmp_path, "alone")) == ExitCode.SUCCESS
    capfd.readouterr()
    assert main(asked(checkpoint, tmp_path, "more", *degrees)) == ExitCode.SUCCESS

    assert "15 answers to 5 prompts in" in capfd.readouterr().out
    check_equal(tmp_path, "more")


@pytest.mark.long
def test_what_a_rank_finds_wrong_is_told_once(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # 16 places of two layers, two heads of eight columns, keys and values: 4,096 bytes of fp32.
    little = ("--ranks", "2", "--cache-bytes", "4100", "--max-new-tokens", "30")

    assert main(asked(checkpoint, tmp_path, "out", *little)) == ExitCode.CONFIG

    told = capfd.readouterr().err
    assert told.count("error: ") == 1 and "Traceback" not in told
    assert "prompts.jsonl:" in told and "--cache-bytes 4100" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param(
            ("--ranks", "3", "--tensor", "2"), "3 ranks cannot be divided into copies of --tensor 2", id="r"
        ),
        pytest.param(("--tensor", "2"), "1 ranks cannot be divided into copies of --tensor 2", id="one"),
        pytest.param(
            ("--ranks", "8", "--tensor", "8"), "attentionHeads 4 is not a multiple of --tensor 8", id="h"
        ),
        pytest.param(("--ranks", "4", "--pipeline", "4"), "model.layers 2 are fewer", id="layers"),
        pytest.param(("--ranks", "0"), "--ranks 0 must be 1 to 1024", id="none"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_before_any_rank_starts(
    checkpoint: Path, tmp_path: Path, more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(checkpoint, tmp_path, "out", *more)) == ExitCode.CONFIG
    assert message in capsys.readouterr().err
