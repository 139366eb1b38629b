"""What a row says of the rollout that its step was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.rollout.batches import RolloutBatches


@dataclass
class RolloutValues(Callback):
    """Adds the numbers of a rollout to the row of each of its steps."""

    batches: RolloutBatches

    def after_step(self, step: TrainedStep) -> None:
        """See Callback."""
        step.columns.update(self.batches.values)
