"""Losses from preferences: known answers, gradients, and what extreme log-probabilities give."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from footplate_trainer.model.objectives import preference
from footplate_trainer.model.objectives.preference import (
    hinge_loss,
    ipo_average_loss,
    ipo_sum_loss,
    kto_divergence,
    kto_loss,
    log_odds,
    orpo_loss,
    pairwise_loss,
    robust_loss,
    sigmoid_loss,
    simpo_loss,
)
from tests.support.formulas import agrees, exact, has_its_gradient

CHOSEN, REJECTED = exact(1.0), exact(-0.5)
TOKENS = torch.tensor([4]), torch.tensor([2])
AT_START = exact(0.0), exact(0.0)  # the policy is the reference
BOTH = exact(-1.0), exact(-1.5)  # mean log-probabilities


@pytest.mark.parametrize(
    ("loss", "known"),
    [
        pytest.param(sigmoid_loss(*AT_START, 0.1), 0.693147, id="sigmoid-at-the-start"),
        pytest.param(robust_loss(*AT_START, 0.1, 0.1), 0.693147, id="robust-at-the-start"),
        pytest.param(ipo_sum_loss(*AT_START, 0.1), 25.0, id="ipo-sum-at-the-start"),
        pytest.param(ipo_average_loss(*AT_START, *TOKENS, 0.1), 25.0, id="ipo-average-at-the-start"),
        pytest.param(sigmoid_loss(CHOSEN, REJECTED, 0.1), 0.620957, id="sigmoid"),
        pytest.param(sigmoid_loss(CHOSEN, REJECTED, 0.1, 0.1), 0.635957, id="conservative"),
        pytest.param(robust_loss(CHOSEN, REJECTED, 0.1, 0.1), 0.602207, id="robust"),
        pytest.param(hinge_loss(CHOSEN, REJECTED, 0.1), 0.85, id="hinge"),
        pytest.param(ipo_average_loss(CHOSEN, REJECTED, *TOKENS, 0.1), 20.25, id="ipo-average"),
        pytest.param(ipo_sum_loss(CHOSEN, REJECTED, 0.1), 12.25, id="ipo-sum"),
        pytest.param(kto_loss(CHOSEN, torch.tensor([True]), 0.2, 0.1), 0.480011, id="kto-desirable"),
        pytest.param(kto_loss(REJECTED, torch.tensor([False]), 0.2, 0.1), 0.482507, id="kto-undesirable"),
        pytest.param(
            kto_loss(REJECTED, torch.tensor([False]), 0.2, 0.1, (1.0, 3.0)), 3 * 0.4825071, id="kto-weighted"
        ),
        pytest.param(log_odds(BOTH[0]) - log_odds(BOTH[1]), 0.706193, id="log-odds"),
        pytest.param(orpo_loss(*BOTH, 0.1), 0.040114, id="orpo"),
        pytest.param(simpo_loss(*BOTH, 2.0, 0.5), 0.474077, id="simpo"),
        pytest.param(simpo_loss(*BOTH, 2.0, 1.0), 0.693147, id="simpo-at-its-margin"),
        pytest.param(simpo_loss(*BOTH, 0.1, 0.5), 0.943249, id="simpo-of-TRLs-beta"),
    ],
)
def test_known_answers(loss: Tensor, known: float) -> None:
    agrees(loss, [known])


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(lambda a, b: sigmoid_loss(a, b, 0.3), id="sigmoid"),
        pytest.param(lambda a, b: sigmoid_loss(a, b, 0.3, 0.2), id="conservative"),
        pytest.param(lambda a, b: robust_loss(a, b, 0.3, 0.2), id="robust"),
        pytest.param(lambda a, b: hinge_loss(a, b, 0.3), id="hinge"),
        pytest.param(lambda a, b: ipo_sum_loss(a, b, 0.3), id="ipo-sum"),
        pytest.param(
            lambda a, b: ipo_average_loss(a, b, torch.tensor([4, 2, 7]), torch.tensor([1, 0, 3]), 0.3),
            id="ipo-average",
        ),
        pytest.param(lambda a, b: orpo_loss(-a.exp(), -b.exp(), 0.3), id="orpo"),
        pytest.param(lambda a, b: simpo_loss(a, b, 2.0, 0.5), id="simpo"),
        pytest.param(
            lambda a, b: kto_loss(a + b, torch.tensor([True, False, True]), 0.2, 0.5, (1.0, 1.3)), id="kto"
        ),
    ],
)
def test_gradients_are_those_of_differences(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    has_its_gradient(loss, [0.3, -1.2, 2.0], [-0.4, 0.9, 1.1])


def test_a_smoothed_loss_is_least_where_it_is_believed() -> None:
    delta = exact(math.log(0.9 / 0.1) / 0.5).requires_grad_()  # sigma(0.5 delta) = 0.9
    sigmoid_loss(delta, exact(0.0), 0.5, 0.1).sum().backward()
    agrees(delta.grad, [0.0], 1e-12)


def test_the_robust_loss_of_flipped_labels_is_that_of_true_ones() -> None:
    chosen, rejected, share = exact(0.7, -0.2), exact(-0.4, 1.1), 0.3
    right, flipped = robust_loss(chosen, rejected, 0.5, share), robust_loss(rejected, chosen, 0.5, share)
    agrees((1 - share) * right + share * flipped, sigmoid_loss(chosen, rejected, 0.5).tolist(), 1e-12)


@pytest.mark.parametrize("smoothing", [0.5, 1.0, -0.1])
def test_a_robust_loss_of_labels_that_say_nothing_is_refused(smoothing: float) -> None:
    with pytest.raises(
        ValueError, match=f"smoothing is {smoothing:g}; with robust it must be at least 0 and less than"
    ):
        robust_loss(CHOSEN, REJECTED, 0.1, smoothing)


# -- kto ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_ratios", "known"),
    [
        pytest.param([0.5, -0.1], 0.2, id="mean"),
        pytest.param([-0.5, 0.1], 0.0, id="never-negative"),
        pytest.param([], 0.0, id="none"),
    ],
)
def test_the_kl_of_kto(log_ratios: list[float], known: float) -> None:
    divergence = kto_divergence(exact(*log_ratios).requires_grad_())
    agrees(divergence, known)
    assert not divergence.requires_grad


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mean", [0.0, -1e-12, -1e-6, -0.6931, -0.6932, -50.0, -1e4])
def test_odds_and_their_gradient_are_numbers_for_every_probability(mean: float, dtype: torch.dtype) -> None:
    means = torch.tensor([mean], dtype=dtype, requires_grad=True)
    odds = log_odds(means)
    odds.sum().backward()
    assert odds.isfinite().all() and means.grad.isfinite().all()


def test_odds_are_exact_on_both_sides_of_a_half() -> None:
    means = exact(-1e-9, -0.69, -0.7, -40.0)
    expected = [mean - math.log(-math.expm1(mean)) for mean in means.tolist()]
    agrees(log_odds(means), expected, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("chosen", "rejected", "known"), [(1e30, -1e30, 0.0), (-1e30, 1e30, 2e29), (-5e3, 5e3, 1e3)]
)
def test_a_preference_that_is_certain_neither_overflows_nor_vanishes(
    chosen: float, rejected: float, known: float, dtype: torch.dtype
) -> None:
    ratios = torch.tensor([chosen, rejected], dtype=dtype, requires_grad=True)
    loss = sigmoid_loss(ratios[:1], ratios[1:], 0.1)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([known], dtype=dtype))
    assert ratios.grad.isfinite().all()


LOSSES: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: sigmoid_loss(a, b, 0.1),
    lambda a, b: robust_loss(a, b, 0.1, 0.1),
    lambda a, b: hinge_loss(a, b, 0.1),
    lambda a, b: ipo_sum_loss(a, b, 0.1),
    lambda a, b: ipo_average_loss(a, b, torch.ones(a.shape), torch.ones(a.shape), 0.1),
    lambda a, b: kto_loss(a + b, torch.ones(a.shape, dtype=torch.bool), 0.0, 0.1),
    lambda a, b: orpo_loss(a, b, 0.1),
    lambda a, b: simpo_loss(a, b, 0.1, 0.5),
    pairwise_loss,
]


@pytest.mark.parametrize("loss", LOSSES)
def test_no_pairs_have_no_losses_and_nan_stays_nan(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert loss(exact(), exact()).shape == (0,)
    known = loss(exact(-0.5, math.nan), exact(-0.7, -0.7)).isnan()
    assert known.tolist() == [False, True]


def test_every_loss_of_the_module_is_tried_with_bad_input() -> None:
    assert len(LOSSES) == len([name for name in vars(preference) if name.endswith("_loss")])
