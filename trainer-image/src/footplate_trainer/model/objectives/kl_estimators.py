"""Estimates of KL(policy ‖ reference), and the coefficient that adapts to it (Ziegler et al. 2019).

Estimates are of tokens that the policy sampled (Schulman 2020). Each takes log p and log p_reference of the
sampled tokens, [tokens], and returns one value for each. In a reward they have no gradient. In a loss the
expected gradient over the policy's own tokens is 0 for `k1`, which so restrains nothing there, that of
KL(policy ‖ reference) for `k2`, and that of KL(reference ‖ policy) for `k3`. None is clamped; verl clamps the
exponent of k3 to ±20 and the value to ±10, OpenRLHF the value to ±10.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

ERROR_LIMIT: Final = 0.2
"""By how much of the target the KL may miss it and still count in proportion."""


def k1(log_p: Tensor, reference: Tensor) -> Tensor:
    """Compute `k1`: log p - log p_reference, unbiased, of either sign. The default of TRL's PPO and RLOO."""
    return log_p - reference


def k2(log_p: Tensor, reference: Tensor) -> Tensor:
    """Compute `k2`: (log p - log p_reference)^2 / 2, biased, never negative; verl calls it `mse` too."""
    return (log_p - reference).square() / 2


def k3(log_p: Tensor, reference: Tensor) -> Tensor:
    """Compute `k3`: exp(-k1) - 1 + k1, unbiased, never negative; verl calls it `low_var_kl` too.

    TRL's GRPO multiplies it by the ratio unless `use_bias_correction_kl` is off, which has another gradient.
    """
    apart = reference - log_p
    return torch.expm1(apart) - apart


def adaptive_coefficient(
    coefficient: float, divergence: float, target: float, episodes: int, horizon: int
) -> float:
    """Compute the next coefficient: coefficient (1 + clip(divergence / target - 1, ±0.2) episodes / horizon).

    `divergence` is the mean over the rollout's answers of the sum over their tokens, and `episodes` the
    number of these answers: once for a rollout, however many updates it has. verl and OpenRLHF have the same
    formula; TRL up to 1.10 had a fixed coefficient only.

    Raises:
        ValueError: the divergence is NaN, or so many episodes in one horizon could make the coefficient
            negative or 0.
    """
    if math.isnan(divergence):
        raise ValueError("the rollout's KL divergence is NaN, so the coefficient cannot be adapted")
    if ERROR_LIMIT * episodes >= horizon:
        least = math.floor(ERROR_LIMIT * episodes) + 1
        raise ValueError(f"horizon is {horizon}; with {episodes} answers a rollout use {least} or more")
    error = max(-ERROR_LIMIT, min(ERROR_LIMIT, divergence / target - 1))
    return coefficient * (1 + error * episodes / horizon)
