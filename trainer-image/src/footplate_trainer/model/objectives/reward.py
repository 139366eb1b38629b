"""The loss of a reward model, from scores of a chosen and a rejected answer: fp32 or fp64 [pairs]."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def pairwise_loss(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """Compute -log sigma(chosen - rejected - margin) (Bradley and Terry 1952): [pairs].

    A margin (Touvron et al. 2023) comes from the data, one for each pair, or is 0 for all: the packing
    refuses a data set in which only some rows have one, as TRL does. The margin of a pair with several raters
    is the mean of their differences.
    """
    return -logsigmoid(chosen - rejected - margin)


def centering_penalty(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Compute (chosen + rejected)^2, whose weighted mean over pairs keeps scores near 0: [pairs].

    Eisenstein et al. 2023; TRL's `center_rewards_coefficient` multiplies the same.
    """
    return (chosen + rejected).square()


def correctly_ranked_pairs(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return which pairs' chosen answers have the higher score, for `accuracy`: bool.

    A tie is wrong, as in TRL.
    """
    return chosen > rejected
