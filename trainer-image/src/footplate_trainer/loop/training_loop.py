"""The loop over training steps, to the end of the run or until it is suspended."""

from __future__ import annotations

import gc
from typing import Protocol

from footplate_trainer.data.loader import StepBatch
from footplate_trainer.loop.callbacks import Callback, StepColumns, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import StepFlags, StepResult
from footplate_trainer.metrics.stopwatch import StepPart, Stopwatch


class BatchSource(Protocol):
    """Source of a run's training batches."""

    def step(self, step: int) -> StepBatch | None:
        """Return this rank's share of `step`, from 0.

        None, on every rank, where a suspension was requested before the batch was made: for batches that take
        long.
        """


class StepRunner(Protocol):
    """Stepper of everything that is trained: one model, or several together."""

    @property
    def stopwatch(self) -> Stopwatch:
        """The stopwatch that measures the parts of a step."""

    def step(self, number: int, batch: StepBatch, rate: float, flags: StepFlags) -> StepResult:
        """Train one step on `batch`. Collective; where it raises, all weights are as they were."""


def train(
    stepper: StepRunner, batches: BatchSource, limits: RunLimits, callback: Callback, done: int
) -> StepResult | None:
    """Run the steps after `done`, up to the run's last step or to a suspension. Collective.

    Returns the result of the last step, None where there was none to run. `callback` may change the limits.
    """
    number, result = done, None
    stopwatch = stepper.stopwatch
    stopwatch.read_and_reset()  # what came before belongs to no step
    while number < limits.steps:
        number += 1
        callback.before_data(number)
        with stopwatch.time(StepPart.DATA):
            batch = batches.step(number - 1)
        if batch is None:
            break
        result = stepper.step(number, batch, limits.rate(number), callback.before_compute(number))
        callback.after_step(
            TrainedStep(result, batch, *stopwatch.read_and_reset(), StepColumns(result.means))
        )
        if number == limits.steps:
            callback.after_last_step()
        elif result.flags.suspend:
            break
        if number == done + 1:
            freeze_gc()
    return result


def freeze_gc() -> None:
    """Exempt all existing objects from garbage collection until `unfreeze_gc`.

    A rank of an agent exits before that. What a rank has built by the end of its first step (torch, model,
    optimizer) exists as long as it trains. A full collection walks through all of it: a fifth of a second in
    the middle of a step, on every rank at another one, and all others wait.
    """
    gc.collect()  # what is garbage now would stay for good
    gc.freeze()


def unfreeze_gc() -> None:
    """Undo `freeze_gc`: the models and optimizers of a run that has ended are garbage, in cycles."""
    gc.unfreeze()
