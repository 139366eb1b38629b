"""grpo with a reward model: as with a function that gives its numbers, in any layout, after any kill."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest

from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.commands.plan import frozen_shapes
from footplate_trainer.huggingface.initial import complete_config
from tests.support.ranks import run_ranks
from tests.support.reinforced import (
    STOP,
    History,
    Interrupting,
    Reinforced,
    finished,
    history,
    kept_in,
    killed_and_resumed,
    reinforce,
)
from tests.support.rewards.plain_scores import EVEN
from tests.support.rollout_layouts import LAYOUTS
from tests.support.scores import judged_prompts
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent

STEPS: Final = 4  # of two rollouts, each answer of which is trained on once
SHORT: Final = "{name: short, weight: 0.5, length: {tokens: 4}}"
FUNCTION: Final = (
    f"[{{name: played, function: {{name: 'tests.support.rewards.plain_scores:score'}}}}, {SHORT}]"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders policy, judge and shards."""
    return judged_prompts(tmp_path_factory.mktemp("models"))


def config_of(root: Path, folder: Path, *more: str, functions: str = "") -> RunConfig:
    """Of the reward model and one function, or of `functions` alone."""
    judged = f"{{uri: {root / 'judge'}, functions: [{SHORT}]}}"
    overrides = (
        "stage=grpo",
        f"initFrom={{uri: {root / 'policy'}}}",
        "model={contextLength: 128}",
        f"rollout={{maxTokens: 24, numGenerations: 4, generationBatchSize: 16, stop: {STOP}}}",
        "reinforcement={kl: {coefficient: 0.1}}",
        f"reward={f'{{functions: {functions}}}' if functions else judged}",
        f"training.steps={STEPS}",
        "training.globalBatchSize=8",
        "training.schedule={name: constant}",
        "training.optimizer={name: sgd, learningRate: 0.1}",
        "checkpoint.everySteps=1",
        "checkpoint.keepLast=1",
        *more,
    )
    return tiny_config(root / "shards", folder, overrides)


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("undisturbed")
    end = finished(config_of(root, folder))
    assert all(
        {"rewards/model", "rewards/short", "groups/degenerate"} <= row.values.keys() for row in end.agent.rows
    )
    assert not any("value" in name for row in end.agent.rows for name in row.values)
    return history(folder, STEPS, end)


def test_a_reward_model_is_a_function_that_gives_its_numbers(
    root: Path, undisturbed: History, tmp_path: Path
) -> None:
    end: Reinforced = run_ranks(with_own_functions, 1, config_of(root, tmp_path, functions=FUNCTION))[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert all("rewards/played" in row.values for row in end.agent.rows)
    history(tmp_path, STEPS, end).check_equal(undisturbed)


def with_own_functions(config: RunConfig) -> Reinforced:
    """As one rank whose reward functions lie where this does."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[4])
    return reinforce(FakeAgent(), config)


@pytest.mark.long  # a quick one is that of ppo, whose rewards a reward model gives, too
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_is_one_process(layout: str, undisturbed: History, root: Path, tmp_path: Path) -> None:
    ranks, more = LAYOUTS[layout]
    history(tmp_path, STEPS, finished(config_of(root, tmp_path, *more), ranks)).check_equal(undisturbed)


@pytest.mark.long
def test_a_run_that_is_killed_while_it_scores_goes_on_as_if_it_had_not_been(
    undisturbed: History, root: Path, tmp_path: Path
) -> None:
    moment = Interrupting(phase=RankPhase.SCORING, after_step=2, looks=1)
    again = killed_and_resumed(config_of(root, tmp_path), tmp_path, undisturbed, moment, 1, 2)
    again.check_equal(undisturbed)


def test_no_id_is_drawn_that_the_data_does_not_have(root: Path, tmp_path: Path) -> None:
    """The reward model would have no row for it: three of four rows of this policy are no token's."""
    grown = f"model={{contextLength: 46, vocabularySize: {4 * EVEN.vocabulary}, resizeTokenEmbeddings: true}}"
    end = finished(config_of(root, tmp_path, grown, "training.steps=1", "rollout.batchInvariant=true"))
    values = end.agent.rows[0].values
    assert (values["policy/ratio"], values["kl/sampler"]) == (1.0, 0.0), "both are of all rows"
    drawn = [sample.tokens.max() for sample in kept_in(tmp_path, 0).samples.values()]
    assert len(drawn) == 16
    assert "prompts leave an answer less than rollout.maxTokens 24" in end.stderr
    assert max(drawn) < json.loads((root / "shards" / "manifest.json").read_text())["vocabularySize"]


def test_a_plan_counts_it(root: Path, tmp_path: Path) -> None:
    """Beside the reference, which is a copy of the beginning."""
    shapes = frozen_shapes(complete_config(config_of(root, tmp_path)), 1)
    assert [shape.labels for shape in shapes] == [0, 1]
