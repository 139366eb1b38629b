"""Losses, norms and weights that are no numbers are no agreement with another program."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from bench.posttraining.parity.comparison import deviations, furthest
from bench.posttraining.parity.golden import sums
from bench.posttraining.parity.oracle import Seen

from footplate_contracts.metrics import StepMetrics


def row(step: int, loss: float, norm: float) -> StepMetrics:
    return StepMetrics(
        step=step,
        time=0.0,
        loss=loss,
        gradient_norm=norm,
        learning_rate=0.1,
        tokens=step,
        tokens_per_second=1.0,
        sample_digest="0",
        step_seconds=1.0,
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "small"),
    [
        pytest.param([(1.0, 2.0), (1.0, 2.0)], [(1.0, 2.0), (1.0, 2.0)], True, id="equal"),
        pytest.param([(1.0, 2.0), (math.nan, 2.0)], [(1.0, 2.0), (1.0, 2.0)], False, id="our-loss"),
        pytest.param([(1.0, 2.0), (1.0, 2.0)], [(1.0, 2.0), (math.nan, 2.0)], False, id="their-loss"),
        pytest.param([(1.0, 2.0), (1.0, 2.0)], [(1.0, 2.0), (1.0, math.nan)], False, id="their-norm"),
    ],
)
def test_a_step_behind_the_first_that_is_no_number_is_far_away(
    ours: list[tuple[float, float]], theirs: list[tuple[float, float]], small: bool
) -> None:
    rows = [row(step, *told) for step, told in enumerate(ours, 1)]
    seen = Seen([loss for loss, _ in theirs], [norm for _, norm in theirs], [], [])
    assert deviations(rows, seen, Path(), weights=False).are_small is small


@pytest.mark.parametrize("place", [0, 999, 1999])
def test_sums_tell_a_single_weight_that_is_another(place: int) -> None:
    ours = {"a": torch.ones(1000), "b": torch.ones(1000)}
    theirs = {name: weight.double() for name, weight in ours.items()}
    theirs["ab"[place // 1000]][place % 1000] += 1e-5
    apart = [abs(a - b) for a, b in zip(sums(ours), sums(theirs), strict=True)]
    assert max(apart) == pytest.approx(1e-5, rel=1e-3)


def test_a_tensor_behind_the_first_that_is_no_number_is_far_away() -> None:
    ours = {"a": torch.zeros(2), "b": torch.tensor([0.0, math.nan])}
    assert math.isnan(furthest(ours, {name: torch.zeros(2) for name in ours}))
