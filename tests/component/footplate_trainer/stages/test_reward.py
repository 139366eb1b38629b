"""Stage reward on real ranks: packed as unpacked, scores on any layout, and what it keeps and says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lookup import find_newest_whole, locate
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.preference_dataset import PreferenceDataset
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.errors import UserMistake
from footplate_trainer.frozen.scoring import find_reward, find_value
from footplate_trainer.huggingface.sequence_classification import read_held_out_scores
from footplate_trainer.parallel.reward_objective import sequence_score_collector
from tests.support import layouts
from tests.support.checkpoints import whole_tensors
from tests.support.layouts import AS_CONFIGURED, distance
from tests.support.ranks import run_ranks
from tests.support.scores import our_scores
from tests.support.stage_layouts import ALONE, LISTED, STEADY, of_kind
from tests.support.stages import UNEVEN_CONTEXT, pack_pairs
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under

REWARD = ("stage=reward", f"model.contextLength={UNEVEN_CONTEXT}", "reward={centering: 0.01}")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize("family", ["gpt2", pytest.param("llama", marks=pytest.mark.long)])
def test_packed_is_unpacked(family: str, pairs: Path, tmp_path: Path) -> None:
    """All pairs in each step, so that it does not matter which share a sequence."""
    data = PreferenceDataset(TokenShards.open(str(pairs)), UNEVEN_CONTEXT)
    trained = [
        layouts.train(of_kind("reward", family, ALONE, *fields), STEADY, pairs, tmp_path / fields[0])
        for fields in (
            (f"training.globalBatchSize={len(data)}",),
            (f"training.globalBatchSize={len(data.kept.numbers)}", "data.packing.enabled=false"),
        )
    ]
    assert len(data) < len(data.kept.numbers) - 5, "too few share one for this to show anything"
    found = distance(*trained)
    assert found.is_small, found


def scored(config: RunConfig) -> dict[int, NDArray[np.float32]]:
    """One rank: the scores of the sequences of the first batch, by their rows' places in it."""
    with layouts.opened(config, AS_CONFIGURED) as (model, stepper, loader):
        batch, collected = loader.build(0), sequence_score_collector(model.grid.context_group)
        micro_batches = [stepper.inputs(micro, 0) for micro in batch.micro_batches]
        with torch.no_grad():
            model.passes.evaluate(micro_batches, collected)
        rows: dict[int, NDArray[np.float32]] = {}
        for micro, given in zip(batch.micro_batches, micro_batches, strict=True):
            if collected.in_order:  # else the last layers are elsewhere
                scores = collected.numbers_for(given.targets).numpy(force=True)
                rows |= dict(zip(micro.places.tolist(), scores, strict=True))
        return rows


@pytest.fixture(scope="module")
def alone(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, NDArray[np.float32]]:
    folder = tmp_path_factory.mktemp("alone")
    (rows,) = run_ranks(
        scored, 1, layouts.config_of(of_kind("reward", "llama", ALONE), STEADY, pairs, folder)
    )
    return rows


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(name, marks=() if name == "context-pipeline" else pytest.mark.long)
        for name in ("full", "three", "tensor", "context", "zbv", "context-pipeline", "pipeline-tensor-full")
    ],
)
def test_scores_are_collected_on_every_layout(
    layout: str, alone: dict[int, NDArray[np.float32]], pairs: Path, tmp_path: Path
) -> None:
    config = layouts.config_of(of_kind("reward", "llama", LISTED[layout]), STEADY, pairs, tmp_path)
    rows = {
        place: row
        for here in run_ranks(scored, LISTED[layout].ranks, config)
        for place, row in here.items()
        if place >= 0  # fillers have none
    }
    assert rows.keys() == alone.keys() and len(rows) == 8
    for place, row in rows.items():
        assert np.count_nonzero(row) >= 2
        np.testing.assert_allclose(row, alone[place], rtol=0, atol=1e-6)


def run(pairs: Path, folder: Path, *overrides: str, agent: FakeAgent | None = None) -> Ended:
    """A whole run on one rank."""
    config = tiny_config(pairs, folder, (*REWARD, *overrides))
    end: Ended = run_ranks(train_under, 1, agent or FakeAgent(), config)[0]
    return end


def test_held_out_scores_are_kept_with_the_weights_that_gave_them(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All pairs in one batch, so that what validation saw is what is computed apart from it."""
    rows = len(PreferenceDataset(TokenShards.open(str(pairs)), UNEVEN_CONTEXT))
    end = run(
        pairs,
        tmp_path,
        f"validation={{everySteps: 3, uri: {pairs}, batches: 1}}",
        f"training.globalBatchSize={rows}",
        "training.microBatchSize=1",
        "training.steps=4",
        "checkpoint.everySteps=2",
    )
    assert end.code == ExitCode.SUCCESS, end.stderr
    checkpoint = find_newest_whole(str(tmp_path / "checkpoints"))
    kept, values = checkpoint.state().scores, end.agent.rows[-1].values
    _, scores = our_scores(tmp_path / "checkpoints", pairs)

    assert kept is not None and values is not None and len(scores) == 2 * 40
    assert kept.mean == pytest.approx(np.mean(scores), abs=1e-5)
    assert kept.deviation == pytest.approx(np.std(scores, ddof=1), rel=1e-5)
    chosen, rejected = np.array(scores).reshape(-1, 2).T
    assert {name: value for name, value in values.items() if name.startswith("validation/")} == {
        "validation/accuracy": pytest.approx(np.mean(chosen > rejected)),
        "validation/margin": pytest.approx(np.mean(chosen - rejected), abs=1e-5),
        "validation/score/chosen": pytest.approx(np.mean(chosen), abs=1e-5),
        "validation/score/rejected": pytest.approx(np.mean(rejected), abs=1e-5),
        "validation/score/mean": kept.mean,
        "validation/score/deviation": kept.deviation,
    }
    assert [row.validation_loss is not None for row in end.agent.rows] == [False, False, True, True]
    assert main(("inspect", str(tmp_path / "checkpoints"))) == ExitCode.SUCCESS
    assert f"held-out scores  mean {kept.mean:.6g}, deviation {kept.deviation:.6g}" in capsys.readouterr().out
    # Of step 2 no scores were taken: those of step 3 are of other weights.
    assert locate(str(next((tmp_path / "checkpoints").glob("step-2.e*")))).state().scores is None
    out = tmp_path / "exported"
    assert main(("export", str(tmp_path / "checkpoints"), str(out))) == ExitCode.SUCCESS
    assert read_held_out_scores(json.loads((out / "config.json").read_text())) == kept


def test_ppo_is_rewarded_by_the_checkpoint_that_it_was_given_and_by_no_newer_one(
    pairs: Path, tmp_path: Path
) -> None:
    assert run(pairs, tmp_path, "training.steps=2", "checkpoint.everySteps=1").code == ExitCode.SUCCESS
    folder = str(tmp_path / "checkpoints")
    given = locate(str(next(Path(folder).glob("step-1.e*"))))
    assert find_newest_whole(folder).directory != given.directory
    entry = LineageEntry(
        field="reward",
        run="judge",
        uid="u",
        step=1,
        uri=given.name,
        digest=hashlib.sha256(given.read_bytes("manifest.json")).hexdigest(),
    )
    ppo = ("stage=ppo", "rollout={maxTokens: 8}", f"reward={{uri: {folder}}}")
    config = tiny_config(pairs, tmp_path / "ppo", ppo).model_copy(update={"lineage": [entry]})
    reward, value = find_reward(config), find_value(config)
    assert reward is not None and value is not None
    assert reward.found.directory == value.directory == given.directory

    gone = entry.model_copy(update={"digest": "0" * 64})
    with pytest.raises(UserMistake, match=r"^reward\.run judge: checkpoint .* has changed"):
        find_value(config.model_copy(update={"lineage": [gone]}))


def test_a_run_that_was_suspended_goes_on_as_if_nothing_had_been(pairs: Path, tmp_path: Path) -> None:
    whole = run(pairs, tmp_path / "whole")
    halves = [run(pairs, tmp_path / "halves", agent=FakeAgent(suspend_after=wait)) for wait in (3, None)]
    assert [whole.code, *(end.code for end in halves)] == [
        ExitCode.SUCCESS,
        ExitCode.SUSPENDED,
        ExitCode.SUCCESS,
    ]
    losses = [row.loss for end in halves for row in end.agent.rows]
    assert losses == [row.loss for row in whole.agent.rows] and len(losses) == 6
    expected, found = (
        whole_tensors(CheckpointStore(tmp_path / name / "checkpoints"), 6) for name in ("whole", "halves")
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert "model.score.weight" in found and "model.head.weight" not in found


def test_pairs_that_do_not_fit_end_the_run_before_the_first_step(pairs: Path, tmp_path: Path) -> None:
    end = run(pairs, tmp_path, "model.contextLength=64")
    assert (end.code, end.agent.rows) == (ExitCode.CONFIG, [])
    assert "more than contextLength 64 tokens" in end.stderr and "Traceback" not in end.stderr


def test_running_text_is_no_pair(shards: Path, tmp_path: Path) -> None:
    end = run(shards, tmp_path)
    assert end.code == ExitCode.CONFIG
    assert "stage reward is trained on data packed with --format preferences, but" in end.stderr
