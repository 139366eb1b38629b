"""Preference losses: of pairs of a chosen and a rejected answer, and of single rated answers.

`chosen` and `rejected` are fp32 or fp64 [pairs]. For the family of DPO they are log-ratios, the sum over the
answer's tokens of log p - log p_reference; for ORPO and SimPO, which have no reference, they are means of log
p over the answer's tokens. The tokens are those of the answer alone, whatever other stages train on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_LN2 = math.log(2)


def sigmoid_loss(chosen: Tensor, rejected: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """Compute `sigmoid`: DPO (Rafailov et al. 2023, eq. 7) of log-ratios: [pairs].

    -(1 - s) log sigma(beta d) - s log sigma(-beta d), d = chosen - rejected. With smoothing s this is the
    `conservative` form (Mitchell 2023): minimal where sigma(beta d) = 1 - s. OpenRLHF has the same; TRL has
    it as `aot` on micro-batches of one pair, and its `sigmoid` silently ignores the smoothing.
    """
    logits = beta * (chosen - rejected)
    return -(1 - smoothing) * logsigmoid(logits) - smoothing * logsigmoid(-logits)


def robust_loss(chosen: Tensor, rejected: Tensor, beta: float, smoothing: float) -> Tensor:
    """Compute `sigmoid` with `robust` smoothing (Chowdhury et al. 2024) of log-ratios: [pairs].

    [-(1 - s) log sigma(beta d) + s log sigma(-beta d)] / (1 - 2 s): if a share s of the labels is flipped,
    its expectation is the loss of the true labels. TRL has the same as `robust`.

    Raises:
        ValueError: s is not within [0, 0.5).
    """
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"smoothing is {smoothing:g}; with robust it must be at least 0 and less than 0.5")
    logits = beta * (chosen - rejected)
    kept, flipped = -(1 - smoothing) * logsigmoid(logits), smoothing * logsigmoid(-logits)
    return (kept + flipped) / (1 - 2 * smoothing)


def hinge_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Compute `hinge` (Zhao et al. 2023) of log-ratios: [pairs].

    max(0, 1 - beta d), d = chosen - rejected.
    """
    return torch.relu(1 - beta * (chosen - rejected))


def ipo_sum_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Compute `ipo` of `sum` (Azar et al. 2023, eq. 17) of log-ratios: [pairs].

    (d - 1 / (2 beta))^2, d = chosen - rejected: the paper's exact formula, as in OpenRLHF. Long answers have
    large d.
    """
    return (chosen - rejected - 1 / (2 * beta)).square()


def ipo_average_loss(
    chosen: Tensor, rejected: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, beta: float
) -> Tensor:
    """Compute `ipo` of `average`, the default: `sum` with each log-ratio divided by its answer's tokens.

    [pairs]. TRL has this form, and states that the authors confirmed it. An answer without tokens has the
    average 0.
    """
    chosen, rejected = (
        ratios / tokens.clamp(min=1).to(ratios.dtype)
        for ratios, tokens in ((chosen, chosen_tokens), (rejected, rejected_tokens))
    )
    return ipo_sum_loss(chosen, rejected, beta)


def kto_divergence(log_ratios: Tensor) -> Tensor:
    """Compute `kl` of `kto`: max(0, mean of the step's mismatched log-ratios), without gradient: scalar.

    0 of none. TRL computes it on each device's micro-batch, and averages over devices.
    """
    mean = log_ratios.detach().sum() / max(1, log_ratios.numel())
    return mean.clamp(min=0)


def kto_loss(
    log_ratios: Tensor,
    desirable: Tensor,
    divergence: Tensor | float,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Compute `kto` (Ethayarajh et al. 2024, eq. 7) of single answers: [sequences].

    w (1 - sigma(beta (r - z))) where desirable (bool [sequences]) and w (1 - sigma(beta (z - r))) where not,
    of log-ratios r and z = `kto_divergence`; `weights` are of desirable and of undesirable ones.
    """
    gain = beta * (log_ratios - divergence)
    weight = torch.where(desirable, torch.full_like(gain, weights[0]), weights[1])
    return weight * torch.sigmoid(torch.where(desirable, -gain, gain))


def log_odds(means: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of p = exp(means), means of log-probabilities, at most 0.

    A mean of 0, p = 1, has infinite odds; it counts as the nearest number that has finite ones, without
    gradient.
    """
    below = means.clamp(max=-torch.finfo(means.dtype).eps)
    # log(1 - exp(x)) without cancellation (Mächler 2012)
    small = torch.log1p(-torch.exp(below.clamp(max=-_LN2)))
    large = torch.log(-torch.expm1(below.clamp(min=-_LN2)))
    return below - torch.where(below < -_LN2, small, large)


def orpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Compute the odds term of `orpo` (Hong et al. 2024, eq. 7) of means of log p: [pairs].

    -beta log sigma(log odds(chosen) - log odds(rejected)). The loss of a step is the mean of this over its
    pairs plus the negative log-likelihood of chosen sequences, which is a token mean of the step over the
    tokens that `data.mask` selects. TRL's is over prompt and answer, and takes both means over a micro-batch.
    """
    return -beta * logsigmoid(log_odds(chosen) - log_odds(rejected))


def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    """Compute `simpo` (Meng et al. 2024, eq. 6) of means of log p: [pairs].

    -log sigma(beta (chosen - rejected) - gamma). In TRL it is CPO's loss `simpo`, with beta .1 by default;
    the paper's is 2 to 2.5.
    """
    return -logsigmoid(beta * (chosen - rejected) - gamma)


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
