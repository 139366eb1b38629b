"""TensorBoard's own reader on what a run wrote, was killed, and wrote again."""

from __future__ import annotations

import math
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from footplate_contracts.metrics import StepMetrics
from footplate_trainer.metrics.metric_sinks import TensorBoardSink
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent, train_under


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """(step, value) as TensorBoard shows them."""
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def test_a_run_writes_what_it_tells_its_agent(shards: Path, tmp_path: Path) -> None:
    sink = f"telemetry={{sinks: [{{name: tensorboard, uri: {tmp_path}/board}}]}}"
    first, _ = run_ranks(train_under, 2, FakeAgent(), tiny_config(shards, tmp_path, [sink]))
    shown = scalars(tmp_path / "board", "training/loss")
    assert [step for step, _ in shown] == [1, 2, 3, 4, 5, 6]
    assert all(
        math.isclose(value, row.loss, rel_tol=1e-6)
        for (_, value), row in zip(shown, first.agent.rows, strict=True)
    )


def row(step: int, loss: float) -> StepMetrics:
    return StepMetrics(
        step=step,
        time=float(step),
        loss=loss,
        gradient_norm=0.5,
        learning_rate=6e-4,
        tokens=step,
        tokens_per_second=1.0,
        sample_digest="00ff",
    )


def test_further_numbers_are_a_group_of_their_own(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path, resumed_step=0)
    for step in (1, 2):
        values = {"reward/mean": float(step), "kl": math.nan}
        sink.write(row(step, 1.0).model_copy(update={"values": values}))
    sink.close()
    assert scalars(tmp_path, "values/reward/mean") == [(1, 1.0), (2, 2.0)]
    assert all(math.isnan(value) for _, value in scalars(tmp_path, "values/kl"))


def test_steps_that_are_trained_again_replace_the_first_ones(tmp_path: Path) -> None:
    killed = TensorBoardSink(tmp_path, resumed_step=0)
    for step in (1, 2, 3, 4):
        killed.write(row(step, 1.0))
    killed.flush()
    resumed = TensorBoardSink(tmp_path, resumed_step=2)
    for step in (3, 4, 5):
        resumed.write(row(step, 2.0))
    resumed.close()
    killed.close()
    assert scalars(tmp_path, "training/loss") == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]
