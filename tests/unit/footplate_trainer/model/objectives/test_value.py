"""The value model's loss: known answers, gradients, extremes."""

from __future__ import annotations

import math

import pytest
import torch

from footplate_trainer.model.objectives.value import clipped_value_loss, explained_variance
from tests.support.formulas import agrees, exact, has_its_gradient


def test_known_answers() -> None:
    values = exact(0.6, 0.9, 0.1)
    agrees(clipped_value_loss(values, exact(0.5, 0.5, 0.5), exact(1.0, 1.0, 1.0), 0.2), [0.08, 0.045, 0.405])


def test_gradients_are_those_of_differences() -> None:
    old, returns = exact(0.5, 0.5, 0.5, -1.0), exact(1.0, 1.0, 1.0, -2.0)
    has_its_gradient(lambda values: clipped_value_loss(values, old, returns, 0.2), [0.6, 0.9, 0.1, -1.1])


def test_a_value_that_went_too_far_towards_the_return_is_not_pushed_on() -> None:
    values = exact(0.9, 0.1).requires_grad_()
    clipped_value_loss(values, exact(0.5, 0.5), exact(1.0, 1.0), 0.2).sum().backward()
    agrees(values.grad, [0.0, -0.9])


def test_bad_input() -> None:
    assert clipped_value_loss(exact(), exact(), exact(), 0.2).shape == (0,)
    nan, known = exact(math.nan), exact(0.5)
    for values, old, returns in [(nan, known, known), (known, nan, known), (known, known, nan)]:
        assert clipped_value_loss(values, old, returns, 0.2).isnan().all()


@pytest.mark.parametrize(
    ("values", "returns", "known"),
    [
        pytest.param([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 1.0, id="all"),
        pytest.param([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], 0.0, id="a-constant-explains-nothing"),
        pytest.param([3.0, 2.0, 1.0], [1.0, 2.0, 3.0], -3.0, id="worse-than-a-constant"),
        pytest.param([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], math.nan, id="nothing-to-explain"),
    ],
)
def test_explained_variance(values: list[float], returns: list[float], known: float) -> None:
    counted = torch.tensor([True, True, True, False])
    found = explained_variance(exact(*values, 100.0), exact(*returns, -7.0), counted)
    assert found == pytest.approx(known, nan_ok=True)


def test_one_place_has_no_variance() -> None:
    assert math.isnan(explained_variance(exact(1.0), exact(1.0), torch.tensor([True])))
    assert math.isnan(explained_variance(exact(), exact(), torch.tensor([], dtype=torch.bool)))
