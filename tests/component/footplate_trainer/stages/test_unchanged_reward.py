"""The reward model of a run that goes on: the one of its beginning, in what is no weight, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.checkpoint.training_state import HeldOutScores
from footplate_trainer.errors import UserMistake
from footplate_trainer.frozen.scoring import ScoringModelSource, check_unchanged, find_scoring_model
from footplate_trainer.frozen.source import network_config
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.stages.critic import check_scoring_models
from tests.support.reinforced import finished
from tests.support.scores import judged_prompts, say_of_scores
from tests.support.tiny import tiny_config


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders policy, judge and shards, and what a run of one step wrote."""
    folder = judged_prompts(tmp_path_factory.mktemp("rewarded"), 4)
    finished(config_of(folder, folder / "judge"))
    return folder


def config_of(root: Path, judge: Path, *more: str) -> RunConfig:
    overrides = (
        "stage=ppo",
        f"initFrom={{uri: {root / 'policy'}}}",
        "model={contextLength: 128}",
        "rollout={maxTokens: 4, generationBatchSize: 4}",
        "reinforcement={numIterations: 1}",
        f"reward={{uri: {judge}}}",
        "training.steps=1",
        "training.globalBatchSize=4",
        "training.schedule={name: constant}",
        *more,
    )
    return complete_config(tiny_config(root / "shards", root / "run", overrides))


def mended(root: Path, folder: Path, **changes: object) -> Path:
    """The reward model, elsewhere, whose config.json says `changes`."""
    return say_of_scores(shutil.copytree(root / "judge", folder / "judge"), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="none"),
        pytest.param({"max_position_embeddings": 4096, "attention_dropout": 0.1}, id="without-effect"),
    ],
)
def test_a_run_goes_on_with_the_reward_model_of_its_beginning(
    changes: dict[str, object], root: Path, tmp_path: Path
) -> None:
    check_scoring_models(config_of(root, mended(root, tmp_path, **changes)), 1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"rms_norm_eps": 1e-3}, "model.norm.epsilon was 1e-06, is 0.001", id="network"),
        pytest.param(
            {"mean": 0.0, "std": 2.0},
            "heldOut.deviation was 1.7, is 2.0; heldOut.mean was 0.3, is 0.0",
            id="held-out-scores",
        ),
    ],
)
def test_a_run_is_refused_that_would_learn_from_other_rewards_than_before(
    changes: dict[str, object], told: str, root: Path, tmp_path: Path
) -> None:
    judge = mended(root, tmp_path, **changes)
    with pytest.raises(UserMistake) as refused:
        check_scoring_models(config_of(root, judge), 1)
    assert str(refused.value) == (
        f"reward.uri {judge}: its configuration has changed since this run began: {told}; restore it, or "
        "start another run (another checkpoint.uri)"
    )


def test_held_out_scores_that_normalise_nothing_may_change(root: Path, tmp_path: Path) -> None:
    config = config_of(root, mended(root, tmp_path, mean=9.0), "reward.normalization=running")
    check_scoring_models(config, 1)


def test_what_an_earlier_release_did_not_keep_is_not_compared(root: Path) -> None:
    key = find_newest_whole(str(root / "run" / "checkpoints")).state().key
    found = find_scoring_model(str(root / "judge"), "reward.uri")
    assert found.found.model.to_json() == key["reward.network"]
    other = ScoringModelSource(found.found, HeldOutScores(mean=1.0, deviation=1.0))
    config = config_of(root, root / "judge")
    check_unchanged(other, config, {name: said for name, said in key.items() if name != "reward.heldOut"})
    with pytest.raises(UserMistake, match=r"heldOut\.deviation was 1\.7, is 1\.0"):
        check_unchanged(other, config, key)


def test_a_journal_is_of_the_configuration_too(root: Path, tmp_path: Path) -> None:
    """Of which none is a weight: what the model said of answers is asked again."""
    found, other = (
        find_scoring_model(str(place), "reward.uri").found.model
        for place in (root / "judge", mended(root, tmp_path, rms_norm_eps=1e-3))
    )
    assert network_config(found) != network_config(other)
