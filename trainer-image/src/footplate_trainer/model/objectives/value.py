"""The loss of PPO's value model, and the share of the returns' variance that it explains."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Compute max((V - R)^2, (clip(V, V_old ± clip) - R)^2) / 2: as `values`, [places].

    Not yet multiplied by its weight, .1 by default as in TRL. TRL, verl and OpenRLHF have the same formula.
    """
    near = torch.minimum(torch.maximum(values, old - clip), old + clip)
    return torch.maximum((values - returns).square(), (near - returns).square()) / 2


def explained_variance(values: Tensor, returns: Tensor, counted: Tensor) -> float:
    """Return 1 - Var(R - V) / Var(R) over positions that count (bool); NaN where the returns do not vary."""
    chosen, errors = returns[counted].double(), (returns - values)[counted].double()
    if chosen.numel() < 2 or not (spread := chosen.var()):
        return float("nan")
    return float(1 - errors.var() / spread)
