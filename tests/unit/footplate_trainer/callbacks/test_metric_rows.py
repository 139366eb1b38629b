"""The row that a step leaves, and where it goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from footplate_contracts.metrics import VALUE_NAMES, StepMetrics
from footplate_contracts.samples import LoggedSample
from footplate_contracts.v1alpha1.training import Stage
from footplate_planning.config import model_shape
from footplate_planning.shape import ModelShape
from footplate_trainer.callbacks.metric_rows import (
    ROLLOUT_TOKENS,
    MetricRows,
    UtilisationMeter,
    open_metric_rows,
    utilisation_meter,
)
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.metrics.stopwatch import StepPart
from tests.support.samples import shown
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import FakeAgent, rank_of, trained


def rows_of(rank: int, agent: FakeAgent, folder: Path, *overrides: str) -> tuple[Reporter, MetricRows]:
    """Of a run of six steps; the file is metrics.jsonl in `folder`."""
    config = tiny_config(Path("/shards"), Path("/run"), overrides)
    world = rank_of(rank)
    reporter = Reporter(agent, world)
    rows = open_metric_rows(config, agent, RunLimits(config), reporter, world, folder / "metrics.jsonl")
    return reporter, rows


def test_a_row_has_what_the_step_gave_and_what_others_measured(tmp_path: Path) -> None:
    agent = FakeAgent()
    reporter, rows = rows_of(0, agent, tmp_path)
    step = trained(1, seconds=0.5, parts={StepPart.DATA: 0.125})
    step.columns["validation_loss"] = 3.5
    for callback in (reporter, rows):
        callback.after_step(step)
    [row] = agent.rows
    assert (row.step, row.loss, row.gradient_norm, row.learning_rate) == (1, 2.5, 0.5, 1e-3)
    assert (row.tokens, row.tokens_per_second, row.step_seconds) == (100, 200.0, 0.5)
    assert (row.data_seconds, row.compute_seconds, row.validation_loss) == (0.125, None, 3.5)
    assert row.mfu is None, "nobody knows the peak of this CPU"
    rows.close()
    assert read_rows(tmp_path / "metrics.jsonl") == [row.to_json()]


@pytest.mark.parametrize("part", StepPart)
def test_the_seconds_of_each_part_of_a_step_are_in_its_row(tmp_path: Path, part: StepPart) -> None:
    agent = FakeAgent()
    _, rows = rows_of(0, agent, tmp_path)
    rows.after_step(trained(1, parts={part: 0.125}))
    assert agent.rows[0].to_json()[f"{part}Seconds"] == 0.125


@pytest.mark.parametrize(
    ("parts", "speed"),
    [
        pytest.param({}, 50.0, id="a-step-alone"),
        pytest.param({StepPart.DATA: 1.0, StepPart.CHECKPOINT: 0.5}, 50.0, id="whatever-else-is-in-it"),
        pytest.param({StepPart.ROLLOUT: 1.0, StepPart.SCORING: 0.5}, 200.0, id="behind-a-rollout"),
        pytest.param({StepPart.ROLLOUT: 2.5}, 50.0, id="a-clock-that-is-odd"),
    ],
)
def test_how_fast_a_step_trains_does_not_depend_on_the_rollout_before_it(
    tmp_path: Path, parts: dict[StepPart, float], speed: float
) -> None:
    agent = FakeAgent()
    _, rows = rows_of(0, agent, tmp_path)
    meter = UtilisationMeter(EIGHT, 8192, step_tokens=8 * 8192, devices=8, tflops=989.4)
    rows = replace(rows, utilisation=meter)
    rows.after_step(trained(1, seconds=2.0, parts=parts))
    [row] = agent.rows
    assert (row.tokens_per_second, row.step_seconds) == (speed, 2.0)
    assert row.mfu == pytest.approx(meter.fields(100 / speed)["mfu"])


def test_only_places_that_are_computed_count(tmp_path: Path) -> None:
    """As many weights' worth as there are places, and attention as long as a row is wide."""
    agent = FakeAgent()
    _, rows = rows_of(0, agent, tmp_path)
    meter = UtilisationMeter(EIGHT, 8192, step_tokens=8 * 8192, devices=8, tflops=989.4)
    rows = replace(rows, utilisation=meter)
    for number, places in enumerate([{}, {8192: 8 * 8192}, {1024: 4 * 1024, 512: 4 * 512}], 1):
        step = trained(number, seconds=2.0)
        rows.after_step(replace(step, batch=replace(step.batch, places=places)))
    whole, same, narrow = (row.mfu for row in agent.rows)
    assert whole == same
    parts = [replace(meter, length=width, step_tokens=4 * width).fields(2.0)["mfu"] for width in (1024, 512)]
    assert narrow == pytest.approx(sum(parts))
    assert whole is not None and narrow is not None and narrow < 0.1 * whole


def test_a_model_that_a_step_moves_as_well_counts(tmp_path: Path) -> None:
    """Of the same rows, and of its own weights: a value model's head has one output."""
    config = tiny_config(Path("/shards"), Path("/run"))
    scores = config.model_copy(update={"stage": Stage.REWARD})
    assert model_shape(scores).head_parameters < model_shape(config).head_parameters
    own = utilisation_meter(config, rank_of(0))
    both = utilisation_meter(config, rank_of(0), scores)
    alone, value, pair = (
        replace(meter, tflops=1.0).fields(2.0, {128: 512, 64: 64})
        for meter in (own, replace(own, shape=model_shape(scores)), both)
    )
    assert pair == pytest.approx({name: alone[name] + value[name] for name in ("mfu", "mfu_causal")})


def test_how_fast_a_rollout_samples_stands_in_the_row_behind_it(tmp_path: Path) -> None:
    agent = FakeAgent()
    _, rows = rows_of(0, agent, tmp_path)
    for number, parts in enumerate([{StepPart.ROLLOUT: 0.25}, {}], 1):
        step = trained(number, parts=parts)
        step.columns[ROLLOUT_TOKENS] = 1000
        rows.after_step(step)
    speeds = [(row.values or {}).get("rollout/tokens_per_second") for row in agent.rows]
    assert speeds == [4000.0, None]


def test_samples_go_with_their_row_and_into_a_file_beside_it(tmp_path: Path) -> None:
    agent = FakeAgent()
    _, rows = rows_of(0, agent, tmp_path)
    step = trained(1)
    step.samples.extend([shown(3), shown(4)])
    rows.after_step(step)
    rows.after_step(trained(2))
    rows.close()
    assert agent.samples == {1: [shown(3), shown(4)], 2: []}
    written = read_rows(tmp_path / "metrics.samples.jsonl")
    assert written == [{"step": 1, **shown(3).to_json()}, {"step": 1, **shown(4).to_json()}]


def test_further_numbers_go_with_the_row(tmp_path: Path) -> None:
    agent = FakeAgent()
    _, rows = rows_of(0, agent, tmp_path)
    step = trained(1)
    step.columns.update({"reward": torch.tensor(1.5), "kl": math.nan, "validation_loss": 3.5})
    rows.after_step(step)
    rows.after_step(trained(2))
    first, second = agent.rows
    assert first.validation_loss == 3.5 and second.values is None
    assert first.values is not None and first.values["reward"] == 1.5 and math.isnan(first.values["kl"])
    rows.close()
    written, _ = read_rows(tmp_path / "metrics.jsonl")
    assert written["values"] == {"reward": 1.5, "kl": "NaN"}


def test_what_a_callback_measures_itself_is_believed(tmp_path: Path) -> None:
    agent = FakeAgent()
    _, rows = rows_of(0, agent, tmp_path)
    step = trained(1, parts={StepPart.DATA: 0.125})
    step.columns["data_seconds"] = 0.25
    rows.after_step(step)
    assert agent.rows[0].data_seconds == 0.25


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_whose_numbers_have_another_name_at_each_step_ends_on_every_rank(
    tmp_path: Path, rank: int
) -> None:
    _, rows = rows_of(rank, FakeAgent(), tmp_path)
    for number in range(1, VALUE_NAMES + 1):
        step = trained(number)
        step.columns[f"loss-{number}"] = 1.0
        rows.after_step(step)
    step = trained(VALUE_NAMES + 1)
    step.columns["one-more"] = 1.0
    with pytest.raises(ValueError, match="at most 1000 columns of its own, and 'one-more' is one more"):
        rows.after_step(step)


def test_other_ranks_write_none(tmp_path: Path) -> None:
    agent = FakeAgent()
    _, rows = rows_of(1, agent, tmp_path)
    rows.after_step(trained(1))
    rows.flush()
    rows.close()
    assert (agent.rows, list(tmp_path.iterdir())) == ([], [])


def test_a_line_comes_now_and_then_and_for_the_last_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "footplate_trainer")
    _, rows = rows_of(0, FakeAgent(), tmp_path, "training.logEverySteps=4")
    for number in range(1, 7):
        rows.after_step(trained(number))
    rows.close()
    assert [line.split("  ")[0] for line in caplog.messages] == ["step 4/6", "step 6/6"]


@dataclass
class Shelf:
    """A sink that says what was last done to it."""

    done: list[str] = field(default_factory=list)

    def write(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        self.done.append(f"row {row.step}")

    def flush(self) -> None:
        self.done.append("flushed")

    def close(self) -> None:
        self.done.append("closed")


def test_all_sinks_are_flushed_and_closed(tmp_path: Path) -> None:
    reporter, opened = rows_of(0, FakeAgent(), tmp_path)
    first, second = Shelf(), Shelf()
    rows = MetricRows([first, second], reporter, rank_of(0), opened.utilisation)
    rows.after_step(trained(1))
    rows.flush()
    rows.close()
    opened.close()
    assert first.done == second.done == ["row 1", "flushed", "closed"]


EIGHT = ModelShape(  # Llama 3 8B
    layers=32,
    hidden=4096,
    feed_forward=14_336,
    heads=32,
    key_value_heads=8,
    head_size=128,
    vocabulary=128_256,
    context=8192,
    tied_embeddings=False,
)


def test_utilisation_of_a_step() -> None:
    meter = UtilisationMeter(EIGHT, 8192, step_tokens=8 * 8192, devices=8, tflops=989.4)
    fields = meter.fields(8192 / 5762)
    assert fields["mfu"] == pytest.approx(0.337, abs=5e-4)
    assert fields["mfu_causal"] == pytest.approx(0.337 * 51.47 / 57.914, abs=5e-4)


def test_an_unknown_peak_gives_no_utilisation() -> None:
    assert UtilisationMeter(EIGHT, 8192, 8192, 1, tflops=None).fields(1.0) == {}
