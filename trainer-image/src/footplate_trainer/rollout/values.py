"""What a row says of the rollout that its step was trained on: numbers, some answers, and warnings."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from footplate_contracts.samples import SampleEnd, ShownSample
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.metrics.shown import Candidate
from footplate_trainer.metrics.shown import chosen as chosen_to_show
from footplate_trainer.parallel.world import World
from footplate_trainer.rewards.samples import SampleKey, Unrewarded
from footplate_trainer.rollout.batches import CurrentRollout, RolloutBatches
from footplate_trainer.rollout.watch import RolloutWatch

_log = logging.getLogger(__name__)


@dataclass
class RolloutValues(Callback):
    """Adds the numbers of a rollout to the row of each of its steps, and some answers of the step."""

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
        step.samples.extend(self._shown(current, step))
        if step.number == current.begin.step + 1:
            for warning in self.watch.look(step.number, step.columns.values_by_name()):
                _log.warning(warning)

    def _shown(self, current: CurrentRollout, step: TrainedStep) -> list[ShownSample]:
        keys = [self.batches.key(int(number)) for number in step.batch.sample_ids]
        sums = [current.gathered.sums[key] for key in keys]
        candidates = [
            Candidate(key.prompt, key.sibling, None if isinstance(told, Unrewarded) else told)
            for key, told in zip(keys, sums, strict=True)
        ]
        return [self._sample(current, keys[place]) for place in chosen_to_show(step.number, candidates)]

    def _sample(self, current: CurrentRollout, key: SampleKey) -> ShownSample:
        sample, told = current.gathered.kept.samples[key], current.gathered.sums[key]
        prompt, answer = self.batches.texts(key)
        rewards = current.gathered.kept.rewards[key]
        place = current.gathered.places.index(key.prompt), key.sibling
        return ShownSample(
            prompt=key.prompt,
            sibling=key.sibling,
            prompt_text=prompt,
            answer_text=answer,
            tokens=len(sample.tokens),
            end=SampleEnd(sample.reason),
            rewards={name: value for name, value in rewards.items() if not isinstance(value, str)},
            reward=None if isinstance(told, Unrewarded) else told,
            advantage=float(current.learnt.advantages[place]),
        )
