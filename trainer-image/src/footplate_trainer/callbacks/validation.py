"""The loss on held-out shards, now and then while a run trains.

The held-out batches are the same each time and dealt to the ranks like those
of training, so that the loss is one exact mean over their tokens, whatever the
number of ranks, and two of them can be compared.
"""

from __future__ import annotations

import logging

from footplate_contracts.reports import RankPhase
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.metrics.stopwatch import StepPart
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.world import World

_log = logging.getLogger(__name__)


class Validation(Callback):
    """Evaluates every so many steps, and after the last one."""

    def __init__(
        self,
        stepper: Stepper,
        objective: Objective,
        loader: BatchLoader,
        limits: RunLimits,
        reporter: Reporter,
        world: World,
        *,
        every: int,
        batches: int,
    ) -> None:
        """`batches` are the first global ones of `loader` that count."""
        self._stepper = stepper
        self._objective = objective
        self._loader = loader
        self._limits = limits
        self._reporter = reporter
        self._world = world
        self._every = every
        self._batches = batches

    def after_step(self, step: TrainedStep) -> None:
        """Adds `validation_loss`, a mean over what counts in the held-out batches, to the step's columns."""
        if step.number % self._every and step.number != self._limits.steps:
            return
        with self._stepper.stopwatch.time(StepPart.VALIDATION):
            self._reporter.enter(RankPhase.VALIDATION)
            batches = (self._loader.build(number) for number in range(self._batches))
            loss = self._stepper.evaluate(batches, self._objective)
        step.columns["validation_loss"] = loss
        if self._world.rank == 0:
            _log.info("step %d/%d  validation loss %.4f", step.number, self._limits.steps, loss)
