"""A run that starts from the checkpoint of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.checkpoints import begin, equal, whole_tensors
from tests.support.nonempty import nonempty
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train, train_under


@pytest.fixture(scope="module")
def source(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> CheckpointStore:
    """A finished run with checkpoints of steps 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("source")
    run_ranks(train, 2, tiny_config(shards, folder, ["checkpoint.everySteps=2"]))
    return CheckpointStore(folder / "checkpoints")


def from_source(shards: Path, folder: Path, source: CheckpointStore, *overrides: str) -> RunConfig:
    config = tiny_config(shards, folder, [f"resumeFrom.uri={source.uri}", *overrides])
    return config.model_copy(update={"run": config.run.model_copy(update={"name": "successor"})})


@pytest.mark.parametrize("step", [4, None], ids=["a-step", "the-newest"])
def test_weights_and_moments_come_along(
    shards: Path, tmp_path: Path, source: CheckpointStore, step: int | None
) -> None:
    asked = [f"resumeFrom.step={step}"] if step else []

    found = run_ranks(begin, 2, from_source(shards, tmp_path, source, *asked))

    expected = whole_tensors(source, step or 6)
    for start, named in found:
        assert (start.step, start.tokens, start.updates) == (0, 0, step or 6)
        assert named.keys() == expected.keys()
        assert equal(named, expected)


def test_the_update_count_survives_the_next_restart(
    shards: Path, tmp_path: Path, source: CheckpointStore
) -> None:
    config = from_source(shards, tmp_path, source, "training.steps=4")
    ended: list[Ended] = run_ranks(train_under, 1, FakeAgent(suspend_after=1), config)
    assert ended[0].code == ExitCode.SUSPENDED

    start, _ = run_ranks(begin, 1, config)[0]

    assert (start.step, start.updates) == (2, 8)
    assert CheckpointStore(source.uri).steps() == [6, 4, 2], "the other run is only read"


def test_moments_that_do_not_fit_start_at_zero(shards: Path, tmp_path: Path, source: CheckpointStore) -> None:
    config = from_source(
        shards, tmp_path, source, "training.optimizer.name=sgd", "training.optimizer.momentum=0.9"
    )

    start, named = run_ranks(begin, 1, config)[0]

    expected = whole_tensors(source, 6)
    assert start.updates == 0
    weights = [name for name in named if name.startswith("model.")]
    assert equal(named, expected, *nonempty(weights))
    moments = [name for name in named if name.startswith("optimizer.")]
    assert not any(named[name].any() for name in nonempty(moments))


def test_adapters_begin_beside_the_weights_of_a_run_without(
    shards: Path, tmp_path: Path, source: CheckpointStore
) -> None:
    config = from_source(shards, tmp_path, source, "model.adapter={rank: 2, targetModules: [query]}")

    start, named = run_ranks(begin, 1, config)[0]

    expected = {
        name: tensor for name, tensor in whole_tensors(source, 6).items() if name.startswith("model.")
    }
    assert start.updates == 0
    assert equal(named, expected)
    assert not named["model.blocks.1.attention.query.adapter.b"].any()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(
            ["model.hiddenSize=64"],
            "attention_norm.weight: shape [32] in the checkpoint, shape [64] in this run",
            id="shape",
        ),
        pytest.param(["model.layers=1"], "in the checkpoint, not present in this run", id="fewer-layers"),
        pytest.param(["resumeFrom.step=5"], "resumeFrom.step 5 is not in", id="no-such-step"),
    ],
)
def test_what_does_not_fit_is_refused_by_every_rank(
    shards: Path, tmp_path: Path, source: CheckpointStore, overrides: list[str], message: str
) -> None:
    config = from_source(shards, tmp_path, source, *overrides)

    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), config)

    assert [end.code for end in ended] == [ExitCode.CONFIG] * 2
    assert message in ended[0].stderr
    assert "Traceback" not in ended[0].stderr
