"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from footplate_contracts.v1alpha1.training import ScheduleName


def learning_rate(
    step: int, *, peak: float, steps: int, warmup: int, shape: ScheduleName, minimum_ratio: float
) -> float:
    """The rate of update number `step` (from 1 to `steps`).

    Warm-up is linear and reaches `peak` at step `warmup`; after it the named
    shape falls to `peak * minimum_ratio` at step `steps` (constant: stays).
    """
    if step <= warmup:
        return peak * step / warmup
    if shape is ScheduleName.CONSTANT:
        return peak
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    if shape is ScheduleName.LINEAR:
        share = 1.0 - progress
    else:
        assert shape is ScheduleName.COSINE
        share = 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (minimum_ratio + (1.0 - minimum_ratio) * share)
