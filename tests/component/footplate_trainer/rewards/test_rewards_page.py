"""docs/rewards.md: its functions reward as the page says, and its fields are those of the spec."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from footplate_contracts.v1alpha1.pods import Trainer
from footplate_contracts.v1alpha1.reward import Reward, RewardFunction
from footplate_trainer.rewards.reward_functions import RewardFunctions
from footplate_trainer.rewards.reward_samples import Unrewarded
from footplate_trainer.rewards.scorers import GIVEN
from footplate_trainer.rewards.sums import weighted_sum
from tests.support.rewards.samples import outcomes, sample

PAGE = (Path(__file__).parents[4] / "docs" / "rewards.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def read(text: str) -> Any:
    return YAML(typ="safe").load(text)


@pytest.fixture
def functions(tmp_path: Path) -> list[RewardFunction]:
    """Those of the first block, with the module of the page where they look for it."""
    [code] = blocks("python")
    module = tmp_path / re.findall(r"^# (\S+\.py)$", code, re.M)[0]
    module.parent.mkdir()
    module.write_text(code)
    return Reward.model_validate(read(blocks("yaml")[0])["reward"]).functions or []


def test_the_functions_of_the_page_reward(functions: list[RewardFunction], tmp_path: Path) -> None:
    solution = "Half of 2,400 is 1,200.\n#### 1,200"
    right, wrong, none = "<think>x</think>#### $1200", "#### 12\n\n#### 3", ""
    batch = [sample(text, prompt, solution=solution) for prompt, text in enumerate((right, wrong, none))]
    environment = {"PYTHONPATH": str(tmp_path)}
    found: dict[int, dict[str, Any]] = {0: {}, 1: {}, 2: {}}
    with RewardFunctions(functions, columns=["solution"], max_tokens=52, environment=environment) as rewards:
        for told in outcomes(rewards.submit(batch)):
            found[told.key.prompt][told.reward] = told.outcome
        sums = [weighted_sum(found[prompt], rewards.weights) for prompt in found]
    assert found[0] == {"right": 1.0, "tags": 1.0, "tidy": 1.0, "long": 0.5}
    assert found[1] == {"right": 0.0, "tags": 0.0, "tidy": 0.9, "long": pytest.approx(15 / 52)}
    assert sums[:2] == [1.7, 0.45]
    assert sums[2] == Unrewarded("reward tidy: answer 0 to prompt 2 at step 1: it returned None")


def test_fields_of_the_page_are_those_of_the_spec() -> None:
    keys = read(blocks("yaml")[1])
    [judge] = Reward.model_validate(keys["reward"]).functions or []
    [variable] = Trainer.model_validate(keys["trainer"]).env
    assert judge.function is not None and judge.function.secrets == [variable.name]


def test_the_page_lists_all_kinds_and_parameters() -> None:
    kinds = {
        field.alias or name
        for name, field in RewardFunction.model_fields.items()
        if name not in ("name", "weight", "column", "timeout_seconds")
    }
    first_cells = re.findall(r"^\| (`[^|]+)\|", PAGE, re.M)
    rows = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert rows == kinds | set(GIVEN)
