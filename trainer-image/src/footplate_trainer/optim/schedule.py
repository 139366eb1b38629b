"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from footplate_contracts.v1alpha1.training import ScheduleName


def learning_rate(
    step: int,
    *,
    peak: float,
    steps: int,
    warmup: int,
    shape: ScheduleName,
    minimum_ratio: float,
    decay_share: float | None = None,
) -> float:
    """The rate of update number `step` (from 1 to `steps`).

    Warm-up is linear and reaches `peak` at step `warmup`. After it the named
    shape falls to `peak * minimum_ratio` at step `steps`: constant stays, linear
    and cosine begin at once, and wsd (Hu et al. 2024) stays, then falls linearly
    over the last `decay_share` of all steps, or what warm-up left of them.
    """
    if step <= warmup:
        return peak * step / warmup
    if shape is ScheduleName.CONSTANT:
        return peak
    falling = steps - warmup
    if shape is ScheduleName.WSD:
        assert decay_share is not None, "resolve() fills this in"
        falling = min(falling, round(decay_share * steps))
    left = min(1.0, max(0, steps - step) / falling) if falling else 1.0
    share = 0.5 * (1.0 - math.cos(math.pi * left)) if shape is ScheduleName.COSINE else left
    return peak * (minimum_ratio + (1.0 - minimum_ratio) * share)
