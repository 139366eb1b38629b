"""Losses from preferences: of pairs of a chosen and a rejected answer, and of single rated answers.

`chosen` and `rejected` are fp32 or fp64 [pairs]. Of the family of DPO they are log-ratios, the sum over the
answer's tokens of log p - log p_reference; of ORPO and SimPO, which have no reference, they are means of
log p over the answer's tokens. The tokens are those of the answer alone, whatever is learnt in other stages.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_LN2 = math.log(2)


def sigmoid_loss(chosen: Tensor, rejected: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """`sigmoid`: DPO (Rafailov et al. 2023, eq. 7) of log-ratios: [pairs].

    -(1 - s) log sigma(beta d) - s log sigma(-beta d), d = chosen - rejected. With smoothing s this is the
    `conservative` one (Mitchell 2023): minimal where sigma(beta d) = 1 - s. OpenRLHF has the same; TRL has
    it as `aot` on micro-batches of one pair, and its `sigmoid` leaves the smoothing out without a word.
    """
    logits = beta * (chosen - rejected)
    return -(1 - smoothing) * logsigmoid(logits) - smoothing * logsigmoid(-logits)


def robust_loss(chosen: Tensor, rejected: Tensor, beta: float, smoothing: float) -> Tensor:
    """`sigmoid` with `robust` smoothing (Chowdhury et al. 2024) of log-ratios: [pairs].

    [-(1 - s) log sigma(beta d) + s log sigma(-beta d)] / (1 - 2 s): of labels of which a share s is flipped,
    its expectation is the loss of the true ones. TRL has the same as `robust`.

    Raises:
        ValueError: s is not within [0, 0.5).
    """
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"smoothing is {smoothing:g}; robust needs 0 or more and less than 0.5")
    logits = beta * (chosen - rejected)
    kept, flipped = -(1 - smoothing) * logsigmoid(logits), smoothing * logsigmoid(-logits)
    return (kept + flipped) / (1 - 2 * smoothing)


def hinge_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """`hinge`: max(0, 1 - beta d) of log-ratios, d = chosen - rejected (Zhao et al. 2023): [pairs]."""
    return torch.relu(1 - beta * (chosen - rejected))


def ipo_sum_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """`ipo` of `sum`: (d - 1 / (2 beta))^2, d = chosen - rejected (Azar et al. 2023, eq. 17): [pairs].

    The paper's formula to the letter, as OpenRLHF has it. Long answers have long d.
    """
    return (chosen - rejected - 1 / (2 * beta)).square()


def ipo_average_loss(
    chosen: Tensor, rejected: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, beta: float
) -> Tensor:
    """`ipo` of `average`, the default: as `sum`, each log-ratio divided by its answer's tokens: [pairs].

    TRL has this one, and says that the authors confirmed it. An answer without tokens has the average 0.
    """
    chosen, rejected = (
        ratios / tokens.clamp(min=1).to(ratios.dtype)
        for ratios, tokens in ((chosen, chosen_tokens), (rejected, rejected_tokens))
    )
    return ipo_sum_loss(chosen, rejected, beta)


def mismatched(samples: int) -> Tensor:
    """Whose answer KTO shows behind each sample's prompt, in the order of the step: int64 [samples].

    Prompt i gets the answer of sample i - 1, the first one that of the last: of the whole optimizer step, so
    no layout and no micro-batch is in it. TRL does the same within a micro-batch.

    Raises:
        ValueError: there is one sample, whose own answer would be the mismatched one.
    """
    if samples == 1:
        raise ValueError("a step of 1 sample has no mismatched pair; kto needs a global batch of 2 or more")
    return torch.arange(samples).roll(1)


def kto_divergence(log_ratios: Tensor) -> Tensor:
    """`kl` of `kto`: max(0, mean of the log-ratios of all mismatched pairs of the step), no gradient: scalar.

    0 of none. TRL takes it of a micro-batch on each device, and the mean over devices of that.
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
    """`kto` (Ethayarajh et al. 2024, eq. 7) of single answers: [sequences].

    w (1 - sigma(beta (r - z))) where desirable (bool [sequences]) and w (1 - sigma(beta (z - r))) where not,
    of log-ratios r and z = `kto_divergence`; `weights` are of desirable and of undesirable ones.
    """
    gain = beta * (log_ratios - divergence)
    weight = torch.where(desirable, torch.full_like(gain, weights[0]), weights[1])
    return weight * torch.sigmoid(torch.where(desirable, -gain, gain))


def log_odds(means: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(means), means of log-probabilities, at most 0.

    A mean of 0, p = 1, has infinite odds; it counts as the nearest number that has finite ones, without
    gradient.
    """
    below = means.clamp(max=-torch.finfo(means.dtype).eps)
    # log(1 - exp(x)) without cancellation (Mächler 2012)
    small = torch.log1p(-torch.exp(below.clamp(max=-_LN2)))
    large = torch.log(-torch.expm1(below.clamp(min=-_LN2)))
    return below - torch.where(below < -_LN2, small, large)


def orpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """`orpo` (Hong et al. 2024, eq. 7): its term of odds, of means of log p: [pairs].

    -beta log sigma(log odds(chosen) - log odds(rejected)). The loss of a step is the mean of this over its
    pairs plus the negative log-likelihood of chosen sequences, which is a token mean of the step over what
    `data.mask` marks. TRL's is over prompt and answer, and takes both means of a micro-batch.
    """
    return -beta * logsigmoid(log_odds(chosen) - log_odds(rejected))


def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    """`simpo` (Meng et al. 2024, eq. 6) of means of log p: [pairs].

    -log sigma(beta (chosen - rejected) - gamma).
    In TRL it is CPO's loss `simpo`, with beta .1 by default; the paper's is 2 to 2.5.
    """
    return -logsigmoid(beta * (chosen - rejected) - gamma)
