"""docs/reinforcement.md: its run is one, its presets are those of the code, and its names those of rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import World
from footplate_contracts.v1alpha1.presets import LOW, PRESETS
from footplate_contracts.v1alpha1.reinforcement import Preset
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.manifest.run_file import read_run
from tests.support.plain_llama import random_weights, write
from tests.support.ranks import run_ranks
from tests.support.reinforced import GROUP, STOP, Reinforced, grpo_config, pack_prompts, reinforce
from tests.support.stages import pack_conversations
from tests.support.training import FakeAgent

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "reinforcement.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    """Cells of the table whose first column is called `heading`."""
    table = PAGE.split(f"\n| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_run_of_the_page_is_one(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)[0])
    config = read_run(file).config(World())
    assert config.rollout is not None and config.reinforcement is not None
    updates = (
        config.rollout.generation_batch_size
        * config.reinforcement.num_iterations
        / config.training.global_batch_size
    )
    assert updates == 4, "as the page says"


@pytest.mark.parametrize("preset", Preset)
def test_presets_are_those_of_the_page(preset: Preset) -> None:
    (row,) = [cells for cells in rows_of("preset") if cells[0] == f"`{preset}`"]
    chosen = PRESETS[preset]
    high = LOW if chosen.high is None else chosen.high
    assert row[1:4] == [
        f"`{chosen.advantage}`",
        f"`{chosen.aggregation}`",
        f"`{chosen.importance_sampling_level}`",
    ]
    assert row[4] == f"{LOW:g}, {high:g}".replace("0.", ".")
    assert ("dynamic sampling" in row[5]) == chosen.dynamic_sampling
    assert ("overlong" in row[5]) == (chosen.overlong_share is not None)


def test_rows_have_the_names_of_the_page_and_no_others(tmp_path: Path) -> None:
    listed = {name for cells in rows_of("name") for name in re.findall(r"`([^`]+)`", cells[0])}
    config = grpo_config(
        pack_prompts(tmp_path),
        tmp_path,
        "training.steps=2",
        f"rollout={{maxTokens: 24, numGenerations: {GROUP}, generationBatchSize: 16, stop: {STOP}}}",
        "reinforcement={kl: {coefficient: 0.1, target: 0.5}}",
    )
    end: Reinforced = run_ranks(reinforce, 1, FakeAgent(), config)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    values = end.agent.rows[-1].values
    assert {re.sub("rewards/(short|long)", "rewards/NAME", name) for name in values} == listed
    first, second = (row.values for row in end.agent.rows)
    assert first["policy/ratio"] == 1 != second["policy/ratio"]
    assert first["kl/answer"] == 0 == second["kl/answer"], "the reference is where it began"


def test_the_example_trains(tmp_path: Path) -> None:
    """From random weights, which are never right: there is nothing to learn, and it ends well."""
    model = write(tmp_path / "model", random_weights(7))
    source = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"What is {n} + {n}?", "answer": f"{2 * n}"} for n in range(20)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shards = pack_conversations(
        source, tmp_path / "shards", model, format=RecordKind.PROMPTS, texts_are_turns=True
    )
    overrides = (
        f"initFrom.uri={model}",
        f"data.uri={shards}",
        f"checkpoint.uri={tmp_path / 'checkpoints'}",
        "training.steps=3",
        "rollout.maxTokens=8",
    )
    config = read_run(ROOT / "examples" / "grpo.yaml", overrides).config(World())
    end: Reinforced = run_ranks(reinforce, 1, FakeAgent(), config)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert [row.values["rewards/right"] for row in end.agent.rows] == [0, 0, 0]
    assert [row.values["groups/degenerate"] for row in end.agent.rows] == [1, 1, 1]
