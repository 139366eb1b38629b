"""`initFrom` with a run's checkpoint: its shape and weights, on any layout, and no other than was given."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.commands.generate import load
from tests.support.checkpoints import config_from, export_tiny
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent, train, train_under

ADAPTER = "model.adapter={rank: 4, alpha: 16, targetModules: ['blocks.*', head]}"


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoints` of a small GPT-2, and the same `exported`."""
    return export_tiny(shards, tmp_path_factory.mktemp("trained"))


def begun(config: RunConfig, ranks: int, layout: dict[str, int], folder: Path) -> dict[str, torch.Tensor]:
    """What a run of one step that moves nothing ends with."""
    config = config.model_copy(update={"parallelism": config.parallelism.model_copy(update=layout)})
    assert run_ranks(train, ranks, config) == [0] * ranks
    return dict(load(find_newest_whole(str(folder / "checkpoints")))[0].named_parameters())


@pytest.mark.parametrize(
    ("ranks", "layout", "model"),
    [
        pytest.param(1, {}, {"contextLength": 16}, id="with-fewer-positions"),
        pytest.param(4, {"tensor": 2}, {"layers": 2}, id="tensor-and-data"),
        pytest.param(3, {}, {}, id="sharded-unevenly", marks=pytest.mark.long),
        pytest.param(2, {"pipeline": 2}, {}, id="pipeline", marks=pytest.mark.long),
    ],
)
def test_the_weights_are_the_checkpoints(
    shards: Path, trained: Path, tmp_path: Path, ranks: int, layout: dict[str, int], model: dict[str, Any]
) -> None:
    step = find_newest_whole(str(trained / "checkpoints"))
    before = dict(load(step)[0].named_parameters())
    after = begun(config_from(shards, step.name, tmp_path, model), ranks, layout, tmp_path)

    assert before.keys() == after.keys()
    for name, parameter in after.items():
        rows = before[name][: parameter.shape[0]]
        torch.testing.assert_close(parameter, rows, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("ranks", "layout"),
    [
        pytest.param(1, {}, id="alone"),
        pytest.param(4, {"tensor": 2}, id="tensor-and-data", marks=pytest.mark.long),
    ],
)
def test_adapters_are_merged_as_an_export_merges_them(
    shards: Path, tmp_path: Path, ranks: int, layout: dict[str, int]
) -> None:
    tuned = tmp_path / "tuned"
    changes = (ADAPTER, "training.steps=2", "training.optimizer.learningRate=0.05")
    assert run_ranks(train, 1, tiny_config(shards, tuned, changes)) == [0]
    assert main(("export", str(tuned / "checkpoints"), str(tuned / "exported"))) == 0

    found = []
    for name, uri in (("one", tuned / "checkpoints"), ("other", tuned / "exported")):
        config = config_from(shards, str(uri), tmp_path / name, {})
        found.append(begun(config, ranks, layout, tmp_path / name))
    assert found[0].keys() == found[1].keys()
    for name, parameter in found[0].items():
        torch.testing.assert_close(parameter, found[1][name], rtol=1e-6, atol=1e-7)


def given_by(uri: str, digest: str) -> list[LineageEntry]:
    return [LineageEntry(field="initFrom", run="base", uid="u", step=2, uri=uri, digest=digest)]


@pytest.mark.parametrize("fault", ["removed", "another"])
def test_a_checkpoint_that_is_not_the_one_that_was_given_is_refused(
    shards: Path, trained: Path, tmp_path: Path, fault: str
) -> None:
    step = find_newest_whole(str(trained / "checkpoints")).name
    uri = str(tmp_path / "step-2.e1g1")
    digest = hashlib.sha256((Path(step) / "manifest.json").read_bytes()).hexdigest()
    if fault == "another":
        shutil.copytree(step, uri)
        digest = "0" * 64
    config = config_from(shards, uri, tmp_path / "next", {})
    ended = run_ranks(
        train_under, 1, FakeAgent(), config.model_copy(update={"lineage": given_by(uri, digest)})
    )[0]

    assert ended.code == ExitCode.CONFIG
    named = f"error: initFrom.run base: checkpoint {uri}, which was set when this run was admitted, "
    says = {"removed": "is missing; mount that run's volume", "another": "has changed: its manifest.json has"}
    assert named + says[fault] in ended.stderr


def test_embeddings_of_a_checkpoint_do_not_grow(shards: Path, trained: Path, tmp_path: Path) -> None:
    uri = find_newest_whole(str(trained / "checkpoints")).name
    config = config_from(shards, uri, tmp_path, {"resizeTokenEmbeddings": True, "vocabularySize": 1024})
    ended = run_ranks(train_under, 1, FakeAgent(), config)[0]
    assert ended.code == ExitCode.CONFIG
    assert "model.resizeTokenEmbeddings: a checkpoint's embeddings cannot be resized; export " in ended.stderr


def test_a_plan_knows_the_checkpoints_shape(
    shards: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_from(shards, str(trained / "checkpoints"), tmp_path, {})
    assert main(("plan", str(tmp_path / "run.json"), "--ranks", "4", "--set", "parallelism.tensor=2")) == 0
    network, _ = load(find_newest_whole(str(trained / "checkpoints")))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert f"{parameters:,}" in capsys.readouterr().out
