"""The validation loss of real runs: when it comes, and that the number of ranks does not matter."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under


def losses(end: Ended) -> dict[int, float]:
    """Validation losses by step."""
    return {row.step: row.validation_loss for row in end.agent.rows if row.validation_loss is not None}


def test_validation_does_not_depend_on_the_ranks(shards: Path, tmp_path: Path) -> None:
    settings = f"{{everySteps: 4, uri: {shards}, batches: 3}}"

    def trained(ranks: int, sharding: str) -> list[Ended]:
        overrides = [f"validation={settings}", f"parallelism.sharding={sharding}"]
        config = tiny_config(shards, tmp_path / f"{sharding}-{ranks}", overrides)
        ended: list[Ended] = run_ranks(train_under, ranks, FakeAgent(), config)
        return ended

    alone = losses(trained(1, "none")[0])
    assert list(alone) == [4, 6] and alone[6] < alone[4] < 6
    for sharding in ("none", "full"):
        together = trained(3, sharding)
        assert losses(together[0]) == pytest.approx(alone, abs=3e-6)
        assert all(RankPhase.VALIDATION in {report.phase for report in end.agent.reports} for end in together)
        assert together[0].agent.rows[4].validation_seconds


@pytest.mark.long
@pytest.mark.parametrize("schedule", ["1F1B", "Interleaved1F1B", "ZBV"])
def test_validation_does_not_depend_on_a_pipeline(shards: Path, tmp_path: Path, schedule: str) -> None:
    stages = 1 if schedule == "1F1B" else 2
    common = [
        f"validation={{everySteps: 2, uri: {shards}, batches: 2}}",
        "model.layers=4",
        "training.steps=4",
    ]
    layout = f"parallelism={{pipeline: 2, pipelineSchedule: {schedule}, virtualStages: {stages}}}"
    alone, piped = (
        run_ranks(train_under, ranks, FakeAgent(), tiny_config(shards, tmp_path / str(ranks), overrides))
        for ranks, overrides in ((1, common), (2, [*common, layout]))
    )
    expected = losses(alone[0])
    assert list(expected) == [2, 4]
    for end in piped:
        if found := losses(end):
            assert found == pytest.approx(expected, abs=3e-6)
    assert any(losses(end) for end in piped)


def test_validation_changes_nothing_in_training(shards: Path, tmp_path: Path) -> None:
    settings = f"validation={{everySteps: 1, uri: {shards}, batches: 2}}"
    plain, validated = (
        run_ranks(train_under, 2, FakeAgent(), tiny_config(shards, tmp_path / name, overrides))[0].agent.rows
        for name, overrides in (("plain", []), ("validated", [settings]))
    )
    assert [(row.loss, row.gradient_norm) for row in plain] == [
        (row.loss, row.gradient_norm) for row in validated
    ]


def test_too_little_held_out_data_is_refused(shards: Path, tmp_path: Path) -> None:
    overrides = [f"validation={{everySteps: 2, uri: {shards}}}", "training.globalBatchSize=1000"]
    [end] = run_ranks(train_under, 1, FakeAgent(), tiny_config(shards, tmp_path, overrides))
    assert end.code == ExitCode.CONFIG
    assert "fewer than one global batch of 1000" in end.stderr
