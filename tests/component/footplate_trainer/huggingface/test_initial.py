"""`initFrom`: a run that begins with a folder's shape and weights, on any layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate_contracts.names import ExitCode
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.commands.generate import load
from tests.support.checkpoints import config_from, export_tiny
from tests.support.ranks import run_ranks
from tests.support.training import FakeAgent, train, train_under


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoints` of a small GPT-2, and the same `exported`."""
    return export_tiny(shards, tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize(
    ("ranks", "layout"),
    [
        pytest.param(1, {}, id="alone"),
        pytest.param(3, {}, id="sharded-unevenly"),
        pytest.param(4, {"tensor": 2}, id="tensor-and-data"),
        pytest.param(2, {"pipeline": 2}, id="pipeline"),
    ],
)
def test_the_weights_are_the_folders(
    shards: Path, trained: Path, tmp_path: Path, ranks: int, layout: dict[str, int]
) -> None:
    config = config_from(shards, str(trained / "exported"), tmp_path, {"layers": 2, "dropout": {}})
    config = config.model_copy(update={"parallelism": config.parallelism.model_copy(update=layout)})
    assert run_ranks(train, ranks, config) == [0] * ranks

    before, after = (
        load(find_newest_whole(str(folder / "checkpoints")))[0] for folder in (trained, tmp_path)
    )
    assert dict(before.named_parameters()).keys() == dict(after.named_parameters()).keys()
    for name, parameter in after.named_parameters():
        torch.testing.assert_close(parameter, before.get_parameter(name), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        pytest.param(
            {"layers": 3, "family": "llama"},
            "does not match the run: family is llama, in the folder gpt2; layers is 3, in the folder 2",
            id="another-shape",
        ),
        pytest.param(
            {"contextLength": 64}, "contextLength is 64, in the folder at most 32", id="longer-context"
        ),
    ],
)
def test_what_is_stated_must_agree(
    shards: Path, trained: Path, tmp_path: Path, model: dict[str, Any], complaint: str
) -> None:
    config = config_from(shards, str(trained / "exported"), tmp_path, model)

    ended = run_ranks(train_under, 1, FakeAgent(), config)[0]

    assert ended.code == ExitCode.CONFIG
    assert complaint in ended.stderr


def test_a_folder_that_is_not_there_is_named(shards: Path, tmp_path: Path) -> None:
    config = config_from(shards, str(tmp_path / "nowhere"), tmp_path, {})

    ended = run_ranks(train_under, 1, FakeAgent(), config)[0]

    assert ended.code == ExitCode.CONFIG
    assert f"error: initFrom.uri {tmp_path / 'nowhere'}: the folder does not exist; use a" in ended.stderr


def test_a_plan_knows_the_folders_shape(
    shards: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_from(shards, str(trained / "exported"), tmp_path, {})

    assert main(("plan", str(tmp_path / "run.json"), "--ranks", "4", "--set", "parallelism.tensor=2")) == 0

    network, _ = load(find_newest_whole(str(trained / "checkpoints")))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert f"{parameters:,}" in capsys.readouterr().out
