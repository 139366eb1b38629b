"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from footplate_contracts.v1alpha1.training import Schedule, ScheduleName


def learning_rate(step: int, *, steps: int, peak: float, schedule: Schedule) -> float:
    """Return the rate of update number `step` (from 1 to `steps`).

    Warm-up is linear and reaches `peak` at its last step. After it the named shape falls to `peak` x
    minimumRatio at step `steps`: constant stays, linear and cosine begin at once, and wsd (Hu et al. 2024)
    stays, then falls linearly over decayShare of all steps at the end, or over the steps that warm-up left of
    them.
    """
    warmup, shape = schedule.warmup_steps, schedule.name
    if step <= warmup:
        return peak * step / warmup
    if shape is ScheduleName.CONSTANT:
        return peak
    falling = steps - warmup
    if shape is ScheduleName.WSD:
        assert schedule.decay_share is not None, "resolve() fills this in"
        falling = min(falling, round(schedule.decay_share * steps))
    left = min(1.0, max(0, steps - step) / falling) if falling else 1.0
    share = 0.5 * (1.0 - math.cos(math.pi * left)) if shape is ScheduleName.COSINE else left
    return peak * (schedule.minimum_ratio + (1.0 - schedule.minimum_ratio) * share)
