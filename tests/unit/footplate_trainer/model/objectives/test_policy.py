"""The policy's loss: known answers, gradients, what is clipped, what a token weighs, extremes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from footplate_trainer.model.objectives.policy import (
    clipped_policy_loss,
    constant_length,
    sequence_log_ratio,
    sequence_mean,
    token_mean,
)
from tests.support.formulas import agrees, exact, has_its_gradient


@pytest.mark.parametrize(
    ("advantage", "ratio", "bounds", "known", "held"),
    [
        pytest.param(2.0, 1.0, (0.2, 0.2, None), -2.0, False, id="at-the-first-update"),
        pytest.param(2.0, 1.5, (0.2, 0.2, None), -2.4, True, id="too-likely"),
        pytest.param(-1.0, 0.5, (0.2, 0.2, None), 0.8, True, id="too-unlikely"),
        pytest.param(2.0, 0.5, (0.2, 0.2, None), -1.0, False, id="good-and-unlikely"),
        pytest.param(-1.0, 5.0, (0.2, 0.2, None), 5.0, False, id="bad-and-likely"),
        pytest.param(-1.0, 5.0, (0.2, 0.2, 3.0), 3.0, True, id="dual-clip"),
        pytest.param(-1.0, 2.5, (0.2, 0.2, 3.0), 2.5, False, id="below-the-dual-clip"),
        pytest.param(2.0, 5.0, (0.2, 0.2, 3.0), -2.4, True, id="the-dual-clip-is-of-bad-ones"),
        pytest.param(2.0, 1.5, (0.2, 0.28, None), -2.56, True, id="clip-higher"),
        pytest.param(0.0, 5.0, (0.2, 0.2, None), 0.0, False, id="nothing-known"),
    ],
)
def test_known_answers(
    advantage: float, ratio: float, bounds: tuple[float, float, float | None], known: float, held: bool
) -> None:
    loss, was = clipped_policy_loss(exact(ratio).log(), exact(advantage), *bounds)
    agrees(loss, [known], 1e-12)
    assert was.tolist() == [held]


def test_gradients_are_those_of_differences() -> None:
    advantages = exact(2.0, -1.0, 2.0, -1.0, -1.0, 0.0)
    has_its_gradient(
        lambda log_ratio: clipped_policy_loss(log_ratio, advantages, 0.2, 0.28, 3.0)[0],
        exact(1.5, 0.5, 0.5, 2.5, 5.0, 7.0).log(),
    )


def textbook(log_ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    ratio = log_ratio.exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - low, 1 + high))


def test_values_are_those_of_the_textbooks_maximum() -> None:
    generator = torch.Generator().manual_seed(2)
    log_ratio, advantages = torch.randn(2, 500, generator=generator, dtype=torch.float64)
    agrees(
        clipped_policy_loss(log_ratio, advantages, 0.2, 0.3)[0],
        textbook(log_ratio, advantages, 0.2, 0.3).tolist(),
        1e-12,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_clipped_has_no_gradient_however_large_the_ratio(dtype: torch.dtype) -> None:
    log_ratio = torch.tensor([2000.0, -2000.0, 2000.0, 2000.0], dtype=dtype, requires_grad=True)
    advantages = torch.tensor([2.0, -1.0, -1.0, 0.0], dtype=dtype)
    loss, held = clipped_policy_loss(log_ratio, advantages, 0.2, 0.2, 3.0)
    loss.sum().backward()
    assert held.tolist() == [True, True, True, False]
    agrees(loss, [-2.4, 0.8, 3.0, 0.0], 1e-6)
    agrees(log_ratio.grad, [0.0] * 4, 0)


def test_without_a_bound_an_endless_ratio_shows() -> None:
    loss, _ = clipped_policy_loss(exact(2000.0), exact(-1.0), 0.2, 0.2)
    assert loss.tolist() == [math.inf]


@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
def test_nan_stays_nan(advantage: float) -> None:
    assert clipped_policy_loss(exact(math.nan), exact(advantage), 0.2, 0.2, 3.0)[0].isnan().all()


def test_no_tokens_have_no_loss() -> None:
    assert clipped_policy_loss(exact(), exact(), 0.2, 0.2)[0].shape == (0,)


# -- ratios of sequences --------------------------------------------------------------------


def test_the_ratio_of_a_sequence() -> None:
    ratios = exact(0.1, -0.3, 0.05)
    found = sequence_log_ratio(exact(ratios.sum().item() - 7), exact(-7.0), torch.tensor([3]))
    agrees(found.exp(), [0.951229])


def test_an_answer_without_tokens_has_ratio_1() -> None:
    agrees(sequence_log_ratio(exact(0.0), exact(0.0), torch.tensor([0])).exp(), [1.0])


def test_the_gradient_of_a_sequence_is_shared_by_its_tokens() -> None:
    has_its_gradient(
        lambda log_p: clipped_policy_loss(
            sequence_log_ratio(log_p.sum(1), exact(-3.0, -2.0), torch.tensor([3, 3])),
            exact(2.0, -1.0),
            0.2,
            0.2,
        )[0],
        exact([-1.0, -1.2, -0.9], [-0.5, -0.4, -1.0]),
    )


# -- what a token weighs ----------------------------------------------------------------------

LOSSES = [[-1.0, -2.0, -0.5, -1.5], [-0.7, -0.2]]


@pytest.mark.parametrize(
    ("weights", "count", "known"),
    [
        pytest.param(sequence_mean(torch.tensor([4, 2])), 2, -0.85, id="sequence-mean"),
        pytest.param(token_mean(torch.tensor([4, 2])), 6, -0.983333, id="token-mean"),
        pytest.param(constant_length(torch.tensor([4, 2]), 8), 2, -5.9 / 16, id="constant-length"),
    ],
)
def test_known_aggregates(weights: Tensor, count: int, known: float) -> None:
    summed = sum(weight * sum(losses) for weight, losses in zip(weights, LOSSES, strict=True))
    agrees(summed / count, known)


def test_an_answer_without_tokens_weighs_nothing() -> None:
    assert sequence_mean(torch.tensor([0, 2])).tolist() == [0.0, 0.5]
    assert sequence_mean(torch.tensor([], dtype=torch.int64)).shape == (0,)
