"""The loss on held-out shards, measured at intervals during training.

The held-out batches are the same each time and distributed over the ranks like those of training, so that the
loss is one exact mean over their tokens, whatever the number of ranks, and values are comparable.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from footplate_contracts.reports import RankPhase
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.metrics.stopwatch import StepPart
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.world import DistributedContext

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationCallback(Callback):
    """Callback that evaluates every `every` steps, and after the last one."""

    stepper: Stepper
    objective: Objective
    loader: BatchLoader
    limits: RunLimits
    reporter: Reporter
    world: DistributedContext
    every: int  # steps
    batches: int  # the first global ones of `loader`

    def after_step(self, step: TrainedStep) -> None:
        """Add the results of `evaluate` to the step's columns, if validation is due."""
        if not step.number % self.every or step.number == self.limits.steps:
            step.columns.update(self.evaluate(step.number))

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Measure the weights after `step` on the held-out batches. Collective.

        Returns `validation_loss`, a mean over what counts in these batches, and as `validation/…` the means
        of the objective's metric sums.
        """
        with self.stepper.stopwatch.time(StepPart.VALIDATION):
            self.reporter.report_phase(RankPhase.VALIDATION)
            batches = (self.loader.build(number) for number in range(self.batches))
            found = self.stepper.evaluate(batches, self.objective)
        if self.world.rank == 0:
            _log.info("step %d/%d  validation loss %.4f", step, self.limits.steps, found.loss)
        means = {f"validation/{name}": mean for name, mean in found.means.items()}
        return {"validation_loss": found.loss, **means}
