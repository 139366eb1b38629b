"""Rewards of any size have a clear outcome: they count, or the run ends with a line that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from tests.support.ranks import run_ranks
from tests.support.reinforced import Reinforced, grpo_config, pack_prompts, reinforce
from tests.support.training import FakeAgent

REWARDS = Path(__file__).parents[3] / "support" / "rewards"
STAGES = {
    "grpo": ("reinforcement.preset=dr_grpo",),  # which divides advantages by no deviation
    "ppo": (
        "stage=ppo",
        "rollout={maxTokens: 24, generationBatchSize: 8}",
        "reinforcement={whitening: false, value: {fromPolicy: true}}",
    ),
}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_prompts(tmp_path_factory.mktemp("prompts"))


def end_of(stage: str, function: str, prompts: Path, folder: Path, *more: str) -> Reinforced:
    """A run whose rewards are those of that function; one without a weight finds no number in its column."""
    mute = "{name: mute, weight: 0, number: {delimiter: '='}, column: prompt}"
    functions = f"reward.functions=[{{name: apart, function: {{name: 'wrong:{function}'}}}}, {mute}]"
    config = grpo_config(prompts, folder, *STAGES[stage], functions, "training.steps=2", *more)
    end: Reinforced = run_ranks(reinforce, 1, FakeAgent(), config, environment={"PYTHONPATH": str(REWARDS)})[
        0
    ]
    return end


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_the_largest_rewards_that_count_are_trained_on(stage: str, prompts: Path, tmp_path: Path) -> None:
    end = end_of(stage, "wide", prompts, tmp_path)
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert end.agent.rows[0].values["reward/deviation"] > 1e11


@pytest.mark.parametrize("stage", ["grpo", pytest.param("ppo", marks=pytest.mark.long)])
def test_larger_ones_end_a_run_by_name(stage: str, prompts: Path, tmp_path: Path) -> None:
    end = end_of(stage, "too_wide", prompts, tmp_path)
    assert end.code == ExitCode.USER_ERROR
    assert "8 of 8 samples of the rollout have no reward" in end.stderr
    assert "reward apart: answer 0 to prompt 0 at step 0: it returned " in end.stderr
    assert "1e+308, beyond ±1e+12" in end.stderr


def test_a_loss_that_they_make_endless_names_the_largest(prompts: Path, tmp_path: Path) -> None:
    """Not the first one: that of weights which no clip has kept."""
    rash = ("training.optimizer={name: sgd, learningRate: 1000}", "training.gradientClipNorm=0")
    end = end_of("ppo", "wide", prompts, tmp_path, *rash)
    assert end.code == ExitCode.USER_ERROR
    assert [row.step for row in end.agent.rows] == [1] and end.agent.rows[0].values["reward/deviation"] > 1e11
    told = end.stderr.partition("step 2: ")[2]
    assert "is not finite" in told and "; the largest weighted reward in the rollout of step 0 is" in told
    assert "1e+12, of apart for answer 0 to prompt " in told
    mute = "0 of 8 answers do not count; no reward of mute for 8, as reward mute: answer 0"
    assert end.stderr.count(f"rollout of step 0: {mute}") == 1, "both steps are of one rollout"
    assert end.agent.rows[0].values["answers/unrewarded"] == 0
