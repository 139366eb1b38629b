"""Estimates of KL: known answers, the expectations and gradients that their page says, extremes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from footplate_trainer.model.objectives.kl_estimators import k1, k2, k3
from tests.support.formulas import agrees, exact, has_its_gradient

Estimate = Callable[[Tensor, Tensor], Tensor]
LOGITS = exact(0.4, -1.0, 0.3, 1.1)
REFERENCE = torch.log_softmax(exact(-0.2, 0.5, 0.1, 0.9), 0)


@pytest.mark.parametrize(("estimate", "known"), [(k1, 0.5), (k2, 0.125), (k3, 0.106531)])
def test_known_answers(estimate: Estimate, known: float) -> None:
    agrees(estimate(exact(-1.0), exact(-1.5)), [known])


@pytest.mark.parametrize("estimate", [k1, k2, k3])
def test_gradients_are_those_of_differences(estimate: Estimate) -> None:
    has_its_gradient(estimate, [-0.3, -1.2, -2.0], [-0.4, -0.9, -3.1])


@pytest.mark.parametrize("estimate", [k1, k3])
def test_an_unbiased_estimate_has_the_kl_as_its_mean(estimate: Estimate) -> None:
    log_p = torch.log_softmax(LOGITS, 0)
    divergence = (log_p.exp() * (log_p - REFERENCE)).sum()
    agrees((log_p.exp() * estimate(log_p, REFERENCE)).sum(), divergence.item(), 1e-12)


def towards(what: Callable[[Tensor], Tensor]) -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    [gradient] = torch.autograd.grad(what(torch.log_softmax(logits, 0)), logits)
    return gradient


@pytest.mark.parametrize(
    ("estimate", "what"),
    [
        pytest.param(k1, lambda log_p: 0 * log_p.sum(), id="k1-nothing"),
        pytest.param(k2, lambda log_p: (log_p.exp() * (log_p - REFERENCE)).sum(), id="k2-kl"),
        pytest.param(k3, lambda log_p: (REFERENCE.exp() * (REFERENCE - log_p)).sum(), id="k3-reversed"),
    ],
)
def test_what_an_estimate_in_the_loss_minimises(estimate: Estimate, what: Callable[[Tensor], Tensor]) -> None:
    found = towards(lambda log_p: (log_p.detach().exp() * estimate(log_p, REFERENCE)).sum())
    agrees(found, towards(what).tolist(), 1e-12)


def test_k3_of_nearly_equal_probabilities_is_not_rounded_away() -> None:
    agrees(k3(torch.tensor([-1.0]), torch.tensor([-1.0 - 2**-12])), [2**-25], 2**-36)


@pytest.mark.parametrize("estimate", [k1, k2, k3])
def test_bad_input(estimate: Estimate) -> None:
    assert estimate(exact(), exact()).shape == (0,)
    assert estimate(exact(math.nan), exact(-1.0)).isnan().all()
    assert not estimate(exact(-1e4, -1.0), exact(-1.0, -1e4)).isnan().any()
