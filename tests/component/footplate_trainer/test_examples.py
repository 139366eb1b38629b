"""The small examples of each architecture train as they are, on other data and for a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.runconfig import World
from footplate_trainer.manifest.run_file import read_run
from tests.support.ranks import run_ranks
from tests.support.tiny import read_rows
from tests.support.training import train

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("name", ["minimal", "tiny-decoder", "tiny-gpt2", "tiny-bert", "tiny-t5"])
def test_an_example_trains(shards: Path, tmp_path: Path, name: str) -> None:
    overrides = (
        f"data.uri={shards}",
        f"checkpoint.uri={tmp_path / 'checkpoints'}",
        "training.steps=3",
        "training.globalBatchSize=8",
        "training.microBatchSize=4",
        "training.schedule.warmupSteps=0",
    )
    config = read_run(EXAMPLES / f"{name}.yaml", overrides).config(World())

    assert run_ranks(train, 1, config, tmp_path / "metrics.jsonl") == [0]

    rows = read_rows(tmp_path / "metrics.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"]
