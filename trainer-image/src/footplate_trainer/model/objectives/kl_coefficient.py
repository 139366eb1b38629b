"""The coefficient of KL in PPO's rewards, and its adaptation to the measured KL (Ziegler et al. 2019)."""

from __future__ import annotations

import math
from typing import Final

ERROR_LIMIT: Final = 0.2
"""By how much of the target the KL may miss it and still count in proportion."""


def fixed_coefficient(coefficient: float) -> float:
    """Return the coefficient unchanged, for `fixed_coefficient`."""
    return coefficient


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
        raise ValueError("the KL of the rollout is NaN, so the coefficient cannot follow it")
    if ERROR_LIMIT * episodes >= horizon:
        least = math.floor(ERROR_LIMIT * episodes) + 1
        raise ValueError(f"horizon is {horizon}; with {episodes} answers a rollout it is {least} or more")
    error = max(-ERROR_LIMIT, min(ERROR_LIMIT, divergence / target - 1))
    return coefficient * (1 + error * episodes / horizon)
