"""A run that was interrupted is the run that was not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate_contracts.names import Env, ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.training_state import code_revision
from tests.support.checkpoints import whole_tensors
from tests.support.nonempty import nonempty
from tests.support.ranks import run_ranks
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import Ended, FakeAgent, train, train_under

SUSPENDED, SUCCESS = int(ExitCode.SUSPENDED), int(ExitCode.SUCCESS)


@pytest.fixture(scope="module")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two ranks that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = tiny_config(shards, folder, ["checkpoint.everySteps=2"])
    run_ranks(train, 2, config, folder / "metrics.jsonl")
    return folder


def interrupted(config: RunConfig, folder: Path, *ranks: int) -> None:
    """Train with so many ranks, suspended after every second step; the last to the end."""
    metrics = folder / "metrics.jsonl"
    for leg, count in enumerate(ranks[:-1], start=1):
        ended = run_ranks(train_under, count, FakeAgent(suspend_after=2 * leg - 1), config, metrics)
        assert [end.code for end in ended] == [SUSPENDED] * count
    assert run_ranks(train, ranks[-1], config, metrics) == [SUCCESS] * ranks[-1]


def final_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint, whole."""
    store = CheckpointStore(folder / "checkpoints")
    return whole_tensors(store, store.steps()[0])


def curve(folder: Path) -> list[tuple[Any, ...]]:
    return [
        (row["step"], row["loss"], row["gradientNorm"], row["tokens"], row["sampleDigest"])
        for row in read_rows(folder / "metrics.jsonl")
    ]


def test_the_same_layout_goes_on_with_the_same_bits(shards: Path, tmp_path: Path, undisturbed: Path) -> None:
    interrupted(tiny_config(shards, tmp_path), tmp_path, 2, 2)

    assert curve(tmp_path) == curve(undisturbed)
    expected = final_tensors(undisturbed)
    found = final_tensors(tmp_path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in nonempty(expected))


def test_another_number_of_ranks_goes_on(shards: Path, tmp_path: Path, undisturbed: Path) -> None:
    interrupted(tiny_config(shards, tmp_path), tmp_path, 2, 4, 1)

    rows, reference = curve(tmp_path), curve(undisturbed)
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row[1] for row in rows] == pytest.approx([row[1] for row in reference], rel=3e-6)
    assert [row[3:] for row in rows] == [row[3:] for row in reference]
    expected = final_tensors(undisturbed)
    for name, tensor in final_tensors(tmp_path).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_whole_copies_and_shards_read_each_other(shards: Path, tmp_path: Path, undisturbed: Path) -> None:
    whole = tiny_config(shards, tmp_path, ["parallelism.sharding=none"])
    run_ranks(train_under, 2, FakeAgent(suspend_after=2), whole)
    sharded = tiny_config(shards, tmp_path, ["parallelism.sharding=full"])
    run_ranks(train, 2, sharded, tmp_path / "metrics.jsonl")

    resumed = read_rows(tmp_path / "metrics.jsonl")
    reference = read_rows(undisturbed / "metrics.jsonl")[3:]
    assert [row["loss"] for row in resumed] == pytest.approx([row["loss"] for row in reference], rel=3e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param("{name: sgd, learningRate: 0.3, momentum: 0.9}", id="sgd", marks=pytest.mark.long),
        pytest.param("{name: adam, learningRate: 0.01}", id="adam", marks=pytest.mark.long),
        pytest.param("{name: adafactor, learningRate: 0.1}", id="adafactor"),
    ],
)
def test_each_optimizer_goes_on_with_another_number_of_ranks(
    shards: Path, tmp_path: Path, optimizer: str
) -> None:
    chosen = [f"training.optimizer={optimizer}"]
    run_ranks(train, 1, tiny_config(shards, tmp_path / "whole", chosen), tmp_path / "whole" / "metrics.jsonl")

    cut = tmp_path / "cut"
    interrupted(tiny_config(shards, cut, chosen), cut, 3, 2)

    reference, rows = curve(tmp_path / "whole"), curve(cut)
    assert reference[-1][1] < reference[0][1] - 0.05, "a loss that stands still proves nothing"
    assert [row[1] for row in rows] == pytest.approx([row[1] for row in reference], rel=3e-6)
    assert [row[2] for row in rows] == pytest.approx([row[2] for row in reference], rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param("{name: sgd, learningRate: 0.3, momentum: 0.9}", id="sgd"),
        pytest.param("{name: adafactor, learningRate: 0.1}", id="adafactor"),
    ],
)
def test_each_optimizer_goes_on_in_another_layout(shards: Path, tmp_path: Path, optimizer: str) -> None:
    chosen = f"training.optimizer={optimizer}"
    run_ranks(train, 1, tiny_config(shards, tmp_path / "one", [chosen]), tmp_path / "one" / "metrics.jsonl")

    many, metrics = tmp_path / "many", tmp_path / "many" / "metrics.jsonl"
    layouts = (
        ["parallelism.tensor=2"],
        ["parallelism.sharding=hybrid", "parallelism.replicas=2", "parallelism.pipeline=2"],
        ["parallelism.tensor=2", "parallelism.sharding=hybrid", "parallelism.replicas=2"],
    )
    for leg, layout in enumerate(layouts, start=1):
        agent = FakeAgent(suspend_after=2 * leg - 1 if leg < len(layouts) else None)
        ended = run_ranks(train_under, 4, agent, tiny_config(shards, many, [chosen, *layout]), metrics)
        assert [end.code for end in ended] == [SUSPENDED if leg < len(layouts) else SUCCESS] * 4, ended[
            0
        ].stderr

    reference, rows = curve(tmp_path / "one"), curve(many)
    assert [row[1] for row in rows] == pytest.approx([row[1] for row in reference], rel=3e-6)
    assert [row[2] for row in rows] == pytest.approx([row[2] for row in reference], rel=1e-5)


@pytest.fixture
def finished(shards: Path, tmp_path: Path, undisturbed: Path) -> tuple[RunConfig, CheckpointStore]:
    """A copy of the undisturbed run, which has checkpoints of steps 2, 4 and 6."""
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    config = tiny_config(shards, tmp_path, ["checkpoint.everySteps=2"])
    return config, CheckpointStore(tmp_path / "checkpoints")


def truncate(directory: Path) -> None:
    path = directory / "tensors-1.bin"
    path.write_bytes(path.read_bytes()[:-100])


def flip(directory: Path) -> None:
    path = directory / "tensors-0.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_a_file(directory: Path) -> None:
    (directory / "tensors.json").unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        pytest.param(truncate, "tensors-1.bin has", id="truncated"),
        pytest.param(flip, "has SHA-256", id="one-bit"),
        pytest.param(lose_a_file, "tensors.json is missing", id="file-lost"),
        pytest.param(shutil.rmtree, "manifest.json is missing", id="directory-lost"),
        pytest.param(
            lambda directory: (directory.parent / "step-6.committed").write_text(""),
            "marker is torn",
            id="torn-marker",
        ),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    finished: tuple[RunConfig, CheckpointStore], tmp_path: Path, undisturbed: Path, harm: Any, words: str
) -> None:
    config, store = finished
    harm(tmp_path / "checkpoints" / "step-6.e0g0")

    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), config, tmp_path / "metrics.jsonl")

    assert [end.code for end in ended] == [SUCCESS, SUCCESS]
    assert "the damaged checkpoint of step 6" in ended[0].stderr
    assert words in ended[0].stderr
    assert [row.step for row in ended[0].agent.rows] == [5, 6], "steps 1 to 4 were not trained again"
    told = [] if words == "marker is torn" else [6]  # a torn one does not say whose it was
    assert [gone.step for gone in ended[0].agent.removals] == told
    assert store.marker(6) is not None, "step 6 is committed again"
    assert curve(tmp_path) == curve(undisturbed)


@pytest.mark.parametrize("form", [None, 2], ids=["earlier", "later"])
def test_a_checkpoint_of_another_format_ends_the_run_and_keeps_its_marker(
    finished: tuple[RunConfig, CheckpointStore], tmp_path: Path, form: int | None
) -> None:
    config, store = finished
    manifest = tmp_path / "checkpoints" / "step-6.e0g0" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["format"]
    manifest.write_text(json.dumps({**content, "format": form} if form else content))

    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), config)

    assert [end.code for end in ended] == [ExitCode.CONFIG] * 2
    assert all("step-6.e0g0 was written by footplate " in end.stderr for end in ended)
    assert ended[0].stderr.count("\n") == 1
    assert store.steps() == [6, 4, 2]


def test_a_directory_without_marker_does_not_exist(finished: tuple[RunConfig, CheckpointStore]) -> None:
    config, store = finished
    store.revoke(6)

    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), config)

    assert ended[0].stderr == ""
    assert [row.step for row in ended[0].agent.rows] == [5, 6]


def test_a_moment_that_the_checkpoint_has_not_is_named(shards: Path, tmp_path: Path) -> None:
    plain = ["training.optimizer={name: sgd, learningRate: 0.1}", "training.steps=2"]
    run_ranks(train, 1, tiny_config(shards, tmp_path, plain))
    changed = ["training.optimizer={name: sgd, learningRate: 0.1, momentum: 0.9}"]

    ended: list[Ended] = run_ranks(train_under, 1, FakeAgent(), tiny_config(shards, tmp_path, changed))

    assert ended[0].code == ExitCode.CONFIG
    assert "step-2.e0g0 cannot be loaded: Missing key" in ended[0].stderr
    assert "optimizer.momentum_buffer." in ended[0].stderr


def test_equal_determinism_keys_mean_equal_bits(shards: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second", tmp_path / "resumed"]
    configs = [tiny_config(shards, folder, ["training.deterministic=true"]) for folder in folders]
    for config, folder in zip(configs[:2], folders[:2], strict=True):
        run_ranks(train, 2, config, folder / "metrics.jsonl")
    interrupted(configs[2], folders[2], 2, 2)

    expected = final_tensors(folders[0])
    for folder in folders[1:]:
        assert curve(folder) == curve(folders[0])
        found = final_tensors(folder)
        assert all(torch.equal(found[name], expected[name]) for name in nonempty(expected))


def test_a_resume_under_another_key_names_what_differs(shards: Path, tmp_path: Path) -> None:
    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(suspend_after=2), tiny_config(shards, tmp_path))
    assert ended[0].stderr == ""

    changed = tiny_config(shards, tmp_path, ["training.optimizer.learningRate=0.02"])
    ended = run_ranks(train_under, 1, FakeAgent(), changed, environment={Env.REVISION: "0123abc"})

    (warning,) = ended[0].stderr.splitlines()
    assert warning.startswith("warning: step 3 was computed under another determinism key")
    assert f"revision was {code_revision({})}, is 0123abc" in warning
    assert "training.optimizer.learningRate was 0.01, is 0.02" in warning
    assert "worldSize was 2, is 1" in warning
