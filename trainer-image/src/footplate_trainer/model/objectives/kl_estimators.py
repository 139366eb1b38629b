"""Estimates of KL(policy ‖ reference) from tokens that the policy sampled (Schulman 2020).

Each takes log p and log p_reference of the sampled tokens, [tokens], and returns one value for each. In a
reward they have no gradient. In a loss the expected gradient over the policy's own tokens is 0 for `k1`,
which so restrains nothing there, that of KL(policy ‖ reference) for `k2`, and that of KL(reference ‖ policy)
for `k3`. None is clamped; verl clamps the exponent of k3 to ±20 and the value to ±10, OpenRLHF the value to
±10.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
