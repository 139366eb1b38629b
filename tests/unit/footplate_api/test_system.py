"""Gauges of runs: the newest metric row counts, else the status."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from footplate_api.models.metric import MetricRow
from footplate_api.system.gauges import Watched
from footplate_api.system.service import run_families, standing


def row(newest: MetricRow | None = None, **changes: Any) -> Watched:
    values = {"namespace": "research", "name": "gpt", "phase": "Running", "step": 5, "loss": 3.0}
    return Watched(SimpleNamespace(**{**values, **changes}), newest)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(row(), (5, 3.0), id="status-alone"),
        pytest.param(row(loss=None), (5, None), id="no-loss-yet"),
        pytest.param(row(MetricRow(step=7, loss=2.5)), (7, 2.5), id="telemetry-is-ahead"),
        pytest.param(row(MetricRow(step=7)), (7, math.nan), id="a-loss-that-is-no-number-shows"),
    ],
)
def test_where_a_run_stands(given: Watched, expected: tuple[int, float | None]) -> None:
    assert standing(given) == pytest.approx(expected, nan_ok=True)


def test_labels_name_the_run_and_only_info_the_phase() -> None:
    step, loss, info, *_ = run_families([row(), row(name="new", phase=None, loss=None)])
    assert [sample.labels for sample in step.samples] == [
        {"namespace": "research", "name": "gpt"},
        {"namespace": "research", "name": "new"},
    ]
    assert [sample.labels["name"] for sample in loss.samples] == ["gpt"]
    assert [sample.labels["phase"] for sample in info.samples] == ["Running", ""]


def test_what_the_newest_row_measured_is_a_gauge_and_what_it_did_not_is_none() -> None:
    measured = MetricRow(step=7, tokens=4096, tokens_per_second=0.0, data_seconds=0.25, mfu_causal=0.375)
    samples = [
        (sample.name.removeprefix("footplate_run_"), *list(sample.labels.values())[2:], sample.value)
        for family in run_families([row(measured), row(name="new")])[3:]
        for sample in family.samples
    ]
    assert samples == [
        ("tokens", 4096),
        ("tokens_per_second", 0.0),
        ("step_part_seconds", "data", 0.25),
        ("mfu_ratio", "causal", 0.375),
    ]
