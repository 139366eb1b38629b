"""The learning rate at named steps."""

from __future__ import annotations

import pytest

from footplate_contracts.v1alpha1.training import Schedule, ScheduleName
from footplate_trainer.optim.schedule import learning_rate

CONSTANT, LINEAR = ScheduleName.CONSTANT, ScheduleName.LINEAR
COSINE, WSD = ScheduleName.COSINE, ScheduleName.WSD


@pytest.mark.parametrize(
    ("shape", "step", "warmup", "expected"),
    [
        pytest.param(COSINE, 1, 10, 0.1, id="first-warm-up-step"),
        pytest.param(COSINE, 10, 10, 1.0, id="peak-at-the-end-of-warm-up"),
        pytest.param(COSINE, 60, 10, 0.55, id="cosine-half-way"),
        pytest.param(COSINE, 110, 10, 0.1, id="cosine-ends-at-the-minimum"),
        pytest.param(COSINE, 35, 10, 0.1 + 0.9 * 0.8535533905932737, id="cosine-quarter"),
        pytest.param(LINEAR, 60, 10, 0.55, id="linear-half-way"),
        pytest.param(LINEAR, 35, 10, 0.775, id="linear-quarter"),
        pytest.param(LINEAR, 110, 10, 0.1, id="linear-ends-at-the-minimum"),
        pytest.param(CONSTANT, 110, 10, 1.0, id="constant-stays"),
        pytest.param(CONSTANT, 5, 10, 0.5, id="constant-warms-up"),
        pytest.param(COSINE, 1, 0, pytest.approx(1.0, rel=1e-3), id="no-warm-up"),
        pytest.param(COSINE, 110, 110, 1.0, id="nothing-but-warm-up"),
    ],
)
def test_learning_rate(shape: ScheduleName, step: int, warmup: int, expected: float) -> None:
    schedule = Schedule(name=shape, warmup_steps=warmup, minimum_ratio=0.1)
    rate = learning_rate(step, steps=110, peak=1.0, schedule=schedule)

    assert rate == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "warmup", "share", "expected"),
    [
        pytest.param(5, 10, 0.2, 0.5, id="warms-up"),
        pytest.param(80, 10, 0.2, 1.0, id="stays-until-the-decay"),
        pytest.param(81, 10, 0.2, 0.1 + 0.9 * 19 / 20, id="first-step-of-the-decay"),
        pytest.param(90, 10, 0.2, 0.55, id="half-way-down"),
        pytest.param(100, 10, 0.2, 0.1, id="ends-at-the-minimum"),
        pytest.param(100, 10, 0.0, 1.0, id="no-decay"),
        pytest.param(75, 50, 1.0, 0.55, id="warm-up-leaves-less-than-the-share"),
        pytest.param(101, 10, 0.2, 0.1, id="beyond-the-end"),
    ],
)
def test_warm_up_stable_decay(step: int, warmup: int, share: float, expected: float) -> None:
    schedule = Schedule(name=WSD, warmup_steps=warmup, minimum_ratio=0.1, decay_share=share)
    rate = learning_rate(step, steps=100, peak=1.0, schedule=schedule)

    assert rate == pytest.approx(expected)
