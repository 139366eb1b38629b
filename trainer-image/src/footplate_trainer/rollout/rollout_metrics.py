"""Adds a rollout's metrics, some of its answers, and warnings to the rows of its steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from footplate_trainer.callbacks.metric_rows import ROLLOUT_TOKENS
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rollout.batches import RolloutBatches
from footplate_trainer.rollout.rollout_monitor import RolloutMonitor
from footplate_trainer.rollout.row_samples import count_generated_tokens, select_shown_samples

_log = logging.getLogger(__name__)


@dataclass
class RolloutMetrics(Callback):
    """A callback that adds a rollout's numbers and some of its answers to each of its steps' rows."""

    batches: RolloutBatches
    world: DistributedContext
    watch: RolloutMonitor

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
            select_shown_samples(
                step.number, keys, gathered, learnt, batches.build_reward_input, batches.prompt_number
            )
        )
        if step.number == current.begin.step + 1:
            if (tokens := count_generated_tokens(gathered)) is not None:
                step.columns[ROLLOUT_TOKENS] = tokens
            for warning in self.watch.check(step.number, step.columns.values_by_name()):
                _log.warning(warning)
