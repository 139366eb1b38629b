"""The loss of a policy on answers that were sampled before: ratios, their clipping, and token weights.

Elementwise: log-probabilities, advantages and losses are [tokens], of answers only. The ratio is that of the
probabilities now and when the answer was sampled, both under the same distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_log_ratio(log_p: Tensor, old: Tensor, tokens: Tensor) -> Tensor:
    """Compute `sequence` ratios (GSPO, Zheng et al. 2025, eq. 7), as logarithm: [sequences].

    The mean over an answer's tokens of log p - log p_old, from sums [sequences] and numbers of tokens. Each
    token of an answer has its answer's ratio. An answer without tokens has ratio 1. verl clamps it to 10.
    """
    return (log_p - old) / tokens.clamp(min=1).to(log_p.dtype)


def clipped_policy_loss(
    log_ratio: Tensor, advantages: Tensor, low: float, high: float, dual: float | None = None
) -> tuple[Tensor, Tensor]:
    """Compute PPO's loss max(-A r, -A clip(r, 1 - low, 1 + high)), and which tokens are clipped.

    Schulman et al. 2017. Both results are [tokens]; r = exp(log_ratio). `high` apart from `low` is
    clip-higher (DAPO). With `dual` c > 1 a token of A < 0 loses at most -A c (Ye et al. 2020); verl's default
    is c = 3, and it clamps log_ratio to ±20; TRL's `delta` bounds r for either sign of A.

    A token counts as clipped where a bound is its loss, which then has no gradient, however large r is; NaN
    in `log_ratio` is NaN here. TRL's clipping metrics count ratios beyond a bound on the side that A has,
    which is the same.
    """
    ratio = torch.exp(log_ratio.detach())
    upper, lower = (advantages > 0) & (ratio > 1 + high), (advantages < 0) & (ratio < 1 - low)
    bound = torch.where(upper, torch.full_like(ratio, 1 + high), 1 - low)
    held = upper | lower
    if dual is not None:
        beyond = (advantages < 0) & (ratio > dual)
        bound, held = torch.where(beyond, dual, bound), held | beyond
    # Where a bound counts, or nothing does, exp has no part: its gradient could be 0 * inf.
    still = held | ((advantages == 0) & torch.isposinf(ratio))
    free = torch.exp(torch.where(still, 0.0, log_ratio))
    return -advantages * torch.where(held, bound, free), held


def sequence_mean(tokens: Tensor) -> Tensor:
    """Compute `sequenceMean` (GRPO, Shao et al. 2024): an answer's weight per token, fp64 [sequences].

    1 / tokens of the answer; the caller divides the sum by the answers of the step. 0 where there is no
    token. TRL's `grpo` divides by the answers of a micro-batch; verl's `seq-mean-token-mean` is the same.
    """
    return torch.where(tokens > 0, 1 / tokens.double(), 0.0)


def token_mean(tokens: Tensor) -> Tensor:
    """Compute `tokenMean` (DAPO): weight 1 for each token, fp64 [sequences].

    The caller divides by the number of all answers' tokens of the step. TRL's `dapo` and, over its
    mini-batch, verl's `token-mean` are the same; TRL's `bnpo` divides by the tokens of a micro-batch, which
    has no equivalent here.
    """
    return torch.ones_like(tokens, dtype=torch.float64)


def constant_length(tokens: Tensor, longest: int) -> Tensor:
    """Compute `constantLength` (Dr. GRPO, Liu et al. 2025): weight 1 / longest per token, fp64 [sequences].

    The caller divides by the answers of the step; `longest` is the most tokens that an answer may have. TRL's
    `dr_grpo` is the same where micro-batches are of one size; verl's `seq-mean-token-sum-norm` divides by
    default by the length that this batch is padded to.
    """
    return torch.full_like(tokens, 1 / longest, dtype=torch.float64)
