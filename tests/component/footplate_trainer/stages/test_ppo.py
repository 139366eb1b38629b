"""ppo on real ranks: any layout as one process, and a run that is interrupted as one that is not."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Final

import pytest
import torch

from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.rollout.journal_files import FOLDER
from tests.support.plain_llama import random_weights, write
from tests.support.ranks import run_ranks
from tests.support.reinforced import (
    MOMENTS,
    STOP,
    History,
    Interrupting,
    Mortal,
    finished,
    history,
    kept_in,
    killed_and_resumed,
    reinforce,
)
from tests.support.rewards.plain_scores import EVEN, SEED
from tests.support.scores import judged_prompts, say_of_scores
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent

# Each answer twice, in four mini-batches; two rollouts, of which the second has another coefficient of KL.
STEPS: Final = 8
SHORT: Final = "{name: short, weight: 0.5, length: {tokens: 4}}"
OF_ALL: Final = {
    "reward/sum",
    "reward/deviation",
    "rewards/short",
    "answers/tokens",
    "answers/truncated",
    "answers/unrewarded",
    "policy/ratio",
    "policy/entropy",
    "policy/clipped_low",
    "policy/clipped_high",
    "kl/sampler",
    "kl/answer",
    "kl/coefficient",
}  # what a row has of both stages


def on_the_page() -> set[str]:
    """The names that the page lists for ppo alone."""
    page = (Path(__file__).parents[4] / "docs" / "reinforcement.md").read_text()
    table = page.split("\n| in a row of ppo |")[1].split("\n\n")[0].splitlines()[2:]
    return {name for line in table for name in re.findall(r"`([^`]+)`", line.split("|")[1])}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """policy, judge and shards."""
    return judged_prompts(tmp_path_factory.mktemp("models"))


def config_of(folders: Path, folder: Path, *more: str) -> RunConfig:
    overrides = (
        "stage=ppo",
        f"initFrom={{uri: {folders / 'policy'}}}",
        "model={contextLength: 128}",
        f"rollout={{maxTokens: 24, generationBatchSize: 16, stop: {STOP}}}",
        "reinforcement={numIterations: 2, missingEosPenalty: 0.5, kl: {target: 0.01, horizon: 100}}",
        f"reward={{uri: {folders / 'judge'}, functions: [{SHORT}]}}",
        f"training.steps={STEPS}",
        "training.globalBatchSize=8",
        "training.schedule={name: constant}",
        "training.optimizer={name: adam, learningRate: 0.001}",
        "checkpoint.everySteps=1",
        "checkpoint.keepLast=1",
        *more,
    )
    return tiny_config(folders / "shards", folder, overrides)


@pytest.fixture(scope="module")
def whole(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[History, int]:
    """An undisturbed run, and how often it told its agent something, or asked it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    end = finished(config_of(folders, folder), agent=Mortal())
    made = history(folder, STEPS, end)
    rows = end.agent.rows
    assert any(row.values["policy/ratio"] != 1 for row in rows), "no second update moved anything"
    assert len({row.values["kl/coefficient"] for row in rows}) == 2, "the coefficient follows the KL"
    assert rows[-1].values["value/explained_variance"] <= 1
    assert {name for name in rows[-1].values if name not in OF_ALL} == on_the_page()
    assert "value.model.score.weight" in made.tensors, "a checkpoint holds the value model"
    assert any(name.startswith("value.optimizer.") for name in made.tensors), "and its moments"
    assert list((folder / "checkpoints" / FOLDER).iterdir()) == [], "journals stay behind"
    assert isinstance(end.agent, Mortal)
    return made, end.agent.moments


@pytest.fixture(scope="module")
def undisturbed(whole: tuple[History, int]) -> History:
    return whole[0]


# All others are those of test_rollout_layouts.py, whose optimizer has no moments.
LAYOUTS: Final = {"two": (2, ()), "tensor-full": (4, ("parallelism={tensor: 2, sharding: full}",))}
QUICK: Final = ("two",)


@pytest.mark.parametrize(
    "layout", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in LAYOUTS]
)
def test_any_layout_is_one_process(layout: str, undisturbed: History, folders: Path, tmp_path: Path) -> None:
    ranks, more = LAYOUTS[layout]
    history(tmp_path, STEPS, finished(config_of(folders, tmp_path, *more), ranks)).check_equal(undisturbed)


@pytest.mark.parametrize(
    ("moment", "before", "after"),
    [
        pytest.param("between-updates", 1, 2, id="between-updates"),
        pytest.param("scoring", 1, 1, id="scoring"),
        pytest.param("drawing", 2, 1, id="drawing", marks=pytest.mark.long),
        pytest.param("between-updates", 3, 1, id="between-updates-and-fewer", marks=pytest.mark.long),
        pytest.param("scoring", 2, 3, id="scoring-and-more", marks=pytest.mark.long),
    ],
)
def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(
    moment: str, before: int, after: int, undisturbed: History, folders: Path, tmp_path: Path
) -> None:
    config = config_of(folders, tmp_path)
    again = killed_and_resumed(config, tmp_path, undisturbed, MOMENTS[moment], before, after)
    again.check_equal(undisturbed)


KILLS: Final = 5  # of a run, one after another


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 10))])
def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(
    seed: int, whole: tuple[History, int], folders: Path, tmp_path: Path
) -> None:
    """All starts that are killed have fewer moments than one that is not: so each ends before it is done."""
    (undisturbed, moments), config, chance = whole, config_of(folders, tmp_path), random.Random(seed)
    for _ in range(KILLS):
        with pytest.raises(AssertionError, match="ended without an answer"):
            run_ranks(reinforce, 1, Mortal(dies_at=chance.randint(1, moments // KILLS)), config)
    end = finished(config)
    history(tmp_path, STEPS, *end.parts).check_equal(undisturbed)


@pytest.mark.parametrize(
    ("looks", "ranks", "rewarded", "scored"),
    [
        # The first look is while functions are asked, the others are behind a batch each.
        pytest.param(4, 1, 16, 8, id="log-probabilities"),
        pytest.param(2, 2, 8, 0, id="rewards-on-two", marks=pytest.mark.long),
    ],
)
def test_a_suspension_while_models_score_keeps_the_batches_that_are_done(
    looks: int,
    ranks: int,
    rewarded: int,
    scored: int,
    undisturbed: History,
    folders: Path,
    tmp_path: Path,
) -> None:
    """The second rollout's answers are in two batches: of the reward model, then of each other model."""
    config = config_of(folders, tmp_path)
    agent = Interrupting(phase=RankPhase.SCORING, after_step=4, looks=looks)
    suspended = run_ranks(reinforce, ranks, agent, config)[0]
    assert suspended.code == ExitCode.SUSPENDED, suspended.stderr
    kept = kept_in(tmp_path, 4)
    assert sum("model" in values for values in kept.rewards.values()) == rewarded
    assert len(kept.scores) == scored
    again = history(tmp_path, STEPS, suspended, finished(config))
    again.check_equal(undisturbed)


def test_answers_of_weights_that_the_run_did_not_begin_with_do_not_count(
    folders: Path, tmp_path: Path
) -> None:
    """Before a first checkpoint a start finds what its model is by then, and a journal of before."""
    policy = write(tmp_path / "policy", random_weights(8, sizes=EVEN), EVEN)
    settings = (f"initFrom.uri={policy}", "training.steps=1")
    config = config_of(folders, tmp_path / "killed", *settings)
    agent = replace(MOMENTS["drawing"], after_step=0, kills=True)
    with pytest.raises(AssertionError, match="ended without an answer"):
        run_ranks(reinforce, 1, agent, config)
    assert [*(tmp_path / "killed").glob(f"checkpoints/{FOLDER}/*/*.records")], "some answers are kept"
    rmtree(policy)
    write(policy, random_weights(9, sizes=EVEN), EVEN)
    again = history(tmp_path / "killed", 1, finished(config))
    again.check_equal(
        history(tmp_path / "fresh", 1, finished(config_of(folders, tmp_path / "fresh", *settings)))
    )


def test_running_scores_go_on_where_a_run_does(folders: Path, tmp_path: Path) -> None:
    running = ("reward.normalization=running", "training.steps=6")
    whole, parts = tmp_path / "whole", config_of(folders, tmp_path / "parts", *running)
    expected = history(whole, 6, finished(config_of(folders, whole, *running)))
    suspended = run_ranks(reinforce, 1, FakeAgent(suspend_after=4), parts)[0]
    assert suspended.code == ExitCode.SUSPENDED, suspended.stderr
    history(tmp_path / "parts", 6, suspended, finished(parts)).check_equal(expected)


# -- where the value model begins, and what is refused -------------------------------------------------


@pytest.mark.parametrize("value", ["{fromPolicy: true}", "{uri: JUDGE}"])
def test_the_value_model_begins_where_it_is_told(value: str, folders: Path, tmp_path: Path) -> None:
    asked = f"reinforcement.value={value.replace('JUDGE', str(folders / 'judge'))}"
    still = "training.optimizer={name: sgd, learningRate: 1.0e-30}"
    end = finished(config_of(folders, tmp_path, asked, "training.steps=1", still))
    tensors = history(tmp_path, 1, end).tensors
    policy, judged = random_weights(7, sizes=EVEN), random_weights(SEED, "score", EVEN)
    name, ours = "model.layers.0.mlp.down_proj.weight", "value.model.blocks.0.feed_forward.down.weight"
    begun = policy if "fromPolicy" in value else judged
    torch.testing.assert_close(tensors[ours], begun[name], rtol=0, atol=0)
    is_judged = torch.equal(tensors["value.model.score.weight"], judged["score.weight"])
    assert is_judged is ("uri" in value), "a new head is no other model's"


REFUSED: Final = {
    "no-scores-kept": (
        {"mean": None},
        (),
        "it has no held-out scores; set validation in the run of stage reward, or set reward.normalization "
        "to running or none",
    ),
    "no-head": (
        {"architectures": ["LlamaForCausalLM"]},
        (),
        "its model returns no scores per text, but 1 is needed; use a run of stage reward, or a "
        "…ForSequenceClassification folder with one label",
    ),
    "short-context": (
        {"max_position_embeddings": 64},
        (),
        "its model reads at most 64 tokens, but model.contextLength is 128; lower it, or use another model",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_reward_model_that_cannot_be_one_is_refused(name: str, folders: Path, tmp_path: Path) -> None:
    changes, more, says = REFUSED[name]
    judge = say_of_scores(write(tmp_path / "judge", random_weights(SEED, "score", EVEN), EVEN), **changes)
    config = config_of(folders, tmp_path, f"reward.uri={judge}", *more)
    end = run_ranks(reinforce, 1, FakeAgent(), config)[0]
    assert end.code == ExitCode.CONFIG
    assert f"reward.uri {judge}: {says}" in end.stderr
