"""Contracts are strict towards people, and reports lenient towards other releases."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from footplate_contracts.base import Contract, WireMessage
from footplate_contracts.v1alpha1.computeprofile import Gpu, PeakTflops
from footplate_contracts.v1alpha1.status import CoordinatorStatus
from footplate_contracts.v1alpha1.training import Optimizer, Schedule
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec


class Sample(WireMessage):
    """A message with a number."""

    step_loss: float


def test_outside_names_are_camel_case() -> None:
    assert Schedule(warmup_steps=3).to_json() == {"name": "cosine", "warmupSteps": 3, "minimumRatio": 0.1}


def test_both_spellings_are_read() -> None:
    assert Schedule.from_json({"warmupSteps": 3}) == Schedule.from_json({"warmup_steps": 3})


@pytest.mark.parametrize(
    ("model", "key"),
    [
        pytest.param(
            Gpu(
                count=1,
                product="x",
                memory_gib=80,
                peak_tflops=PeakTflops(bf16=1, fp32=1),
                tdp_watts=1,
            ),
            "memoryGiB",
            id="unit",
        ),
        pytest.param(CoordinatorStatus(pod_name="x", pod_uid="u"), "podUID", id="initialism"),
    ],
)
def test_kubernetes_spelling_wins_over_camel_case(model: Contract, key: str) -> None:
    assert key in model.to_json()
    assert type(model).from_json(model.to_json()) == model


def test_absent_is_left_out() -> None:
    assert "status" not in json.dumps(CoordinatorStatus(pod_name="x").to_json())


def test_frozen() -> None:
    schedule = Schedule()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(schedule, "warmup_steps", 1)  # noqa: B010 - what mypy refuses as well


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="warmUpSteps"):
        Schedule.from_json({"warmUpSteps": 3})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_of_a_spec_are_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Optimizer(learning_rate=value)


def test_a_report_drops_what_it_does_not_know() -> None:
    assert Sample.from_json({"stepLoss": 1.0, "newIn2027": True}) == Sample(step_loss=1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_lost_loss_reaches_the_other_end(value: float) -> None:
    text = json.dumps(Sample(step_loss=value).to_json(), allow_nan=False)
    arrived = Sample.from_json(json.loads(text)).step_loss
    assert arrived == value or (math.isnan(arrived) and math.isnan(value))


def test_defaults_are_not_shared() -> None:
    """A spec read twice shares no list with its twin."""
    spec = {
        "model": {
            "layers": 1,
            "hiddenSize": 8,
            "attentionHeads": 2,
            "vocabularySize": 8,
            "contextLength": 8,
        },
        "data": {"uri": "/d"},
        "training": {"steps": 1, "globalBatchSize": 1, "optimizer": {"learningRate": 1.0}},
        "compute": {"profile": "p"},
        "checkpoint": {"uri": "/c"},
    }
    first, second = TrainingRunSpec.from_json(spec), TrainingRunSpec.from_json(spec)
    first.resilience.restart_limits["Hang"] = 1
    assert second.resilience.restart_limits == {}
