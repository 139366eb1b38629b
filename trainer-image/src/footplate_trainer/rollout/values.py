"""Adds a rollout's metrics, some of its answers, and warnings to the rows of its steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from footplate_trainer.callbacks.metric_rows import ROLLOUT_TOKENS
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.parallel.world import World
from footplate_trainer.rollout.batches import RolloutBatches
from footplate_trainer.rollout.shown import drawn_tokens, shown
from footplate_trainer.rollout.watch import RolloutWatch

_log = logging.getLogger(__name__)


@dataclass
class RolloutValues(Callback):
    """A callback that adds a rollout's numbers and some of its answers to each of its steps' rows."""

    batches: RolloutBatches
    world: World
    watch: RolloutWatch

    def after_step(self, step: TrainedStep) -> None:
        """See Callback."""
        current = self.batches.current
        assert current is not None, "a step has a batch"
        step.columns.update(current.learnt.values)
        if self.world.rank != 0:
            return
        batches, keys = self.batches, [self.batches.key(int(number)) for number in step.batch.sample_ids]
        gathered, learnt = current.gathered, current.learnt
        step.samples.extend(
            shown(step.number, keys, gathered, learnt, batches.rewarded, batches.prompt_number)
        )
        if step.number == current.begin.step + 1:
            if (tokens := drawn_tokens(gathered)) is not None:
                step.columns[ROLLOUT_TOKENS] = tokens
            for warning in self.watch.look(step.number, step.columns.values_by_name()):
                _log.warning(warning)
