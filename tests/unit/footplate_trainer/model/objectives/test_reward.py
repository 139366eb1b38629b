"""The reward model's loss: known answers, gradients, ties."""

from __future__ import annotations

import math

import torch

from footplate_trainer.model.objectives.preference import (
    centering_penalty,
    correctly_ranked_pairs,
    pairwise_loss,
)
from tests.support.formulas import agrees, exact, has_its_gradient

CHOSEN, REJECTED = exact(1.2), exact(0.4)


def test_known_answers() -> None:
    agrees(pairwise_loss(exact(0.0), exact(0.0)), [0.693147])
    agrees(pairwise_loss(CHOSEN, REJECTED), [0.371101])
    agrees(pairwise_loss(CHOSEN, REJECTED, 0.5), [0.554355])
    agrees(pairwise_loss(CHOSEN, REJECTED, exact(0.5)), [0.554355])
    agrees(0.01 * centering_penalty(CHOSEN, REJECTED), [0.0256])


def test_gradients_are_those_of_differences() -> None:
    def loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return pairwise_loss(chosen, rejected, exact(0.5, 0.0, 1.5)) + 0.01 * centering_penalty(
            chosen, rejected
        )

    has_its_gradient(loss, [0.3, -1.2, 2.0], [-0.4, 0.9, 1.1])


def test_the_higher_score_is_right_and_a_tie_is_wrong() -> None:
    assert correctly_ranked_pairs(exact(1.0, 0.0, 0.5, math.nan), exact(0.0, 1.0, 0.5, 0.0)).tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_scores_of_any_size_have_a_loss_and_a_gradient() -> None:
    scores = exact(1e308, -1e308, 1e308, 1e308).requires_grad_()
    loss = pairwise_loss(scores[[0, 2]], scores[[2, 3]])
    loss.sum().backward()
    agrees(loss, [0.693147, 0.693147])
    far = exact(-4e307).requires_grad_()
    pairwise_loss(far, exact(4e307)).sum().backward()
    agrees(far.grad, [-1.0])


def test_no_pairs_have_no_loss_and_nan_stays_nan() -> None:
    assert pairwise_loss(exact(), exact()).shape == (0,)
    assert pairwise_loss(exact(math.nan), exact(0.0)).isnan().all()
