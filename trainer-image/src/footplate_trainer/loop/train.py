"""Step after step, to the end of the run or until it is suspended."""

from __future__ import annotations

from typing import Protocol

from footplate_trainer.data.loader import StepBatch
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.garbage import collected_apart
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Stepper, StepResult
from footplate_trainer.metrics.stopwatch import StepPart


class Batches(Protocol):
    """Where batches come from; `step` counts from 0."""

    def step(self, step: int) -> StepBatch:
        """This rank's share of a step."""


def train(
    stepper: Stepper, batches: Batches, limits: RunLimits, callback: Callback, done: int
) -> StepResult | None:
    """Take the steps after `done`, up to the run's last or the one that it is suspended after. Collective.

    Returns the result of the last step taken, None where there was none to take.
    `callback` may move the limits.
    """
    number, result = done, None
    stopwatch = stepper.stopwatch
    stopwatch.take()  # what came before belongs to no step
    with collected_apart() as set_aside:
        while number < limits.steps:
            number += 1
            callback.before_data(number)
            with stopwatch.time(StepPart.DATA):
                batch = batches.step(number - 1)
            result = stepper.step(number, batch, limits.rate(number), callback.before_compute(number))
            callback.after_step(TrainedStep(result, batch, *stopwatch.take()))
            if number == limits.steps:
                callback.after_last_step()
            elif result.flags.suspend:
                break
            if number == done + 1:
                set_aside()
    return result
