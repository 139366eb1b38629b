"""What models say of the answers of a rollout before it is trained on: once for all of its updates.

The policy's log-probabilities are gone with its weights after the first update, and those of a reference cost
a pass each time; so both are in the journal beside the answers. A batch is scored at a time, and kept: what
an interruption tears is computed again from the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import Tensor

from footplate_contracts.reports import RankPhase
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.data import order
from footplate_trainer.data.loader import BatchLoader, StepBatch
from footplate_trainer.data.prompt_dataset import PromptOrder
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.metrics.stopwatch import StepPart
from footplate_trainer.model.policy_judge import OLD, asked_of
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.reference import Reference
from footplate_trainer.parallel.world import World
from footplate_trainer.rewards.samples import SampleKey
from footplate_trainer.rollout.appraising import places as places_of
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.kept import GatheredRollout
from footplate_trainer.rollout.records import Float32s, ScoresRecord
from footplate_trainer.rollout.settings import RolloutSettings
from footplate_trainer.rollout.together import keep_each


@dataclass(frozen=True)
class ValueModel:
    """A model that says what an answer is still worth at each place, instead of how likely its tokens are."""

    stepper: Stepper


Models = Mapping[str, Reference | ValueModel | None]
"""Whose log-probabilities, or values, a loss wants, by its name for them; None: the policy's."""

POLICY: Final[Models] = {OLD: None}


@dataclass(frozen=True)
class Scorer:
    """Computes and keeps them."""

    settings: RolloutSettings
    prompts: PromptOrder
    stepper: Stepper
    journal: Journal
    grid: Grid
    world: World
    reporter: Reporter
    stopping: Callable[[], bool]

    def complete(self, gathered: GatheredRollout, models: Models, loader: BatchLoader) -> bool:
        """Have all `models` speak of all answers, of which `loader` makes rows once. Collective.

        False where a stop came first.
        """
        for name, model in models.items():
            if is_scored(gathered, self.settings.group, name):
                continue
            with self.stepper.stopwatch.time(StepPart.SCORING):
                batches = self._scored(gathered, name, model, loader)
                if not keep_each(batches, gathered.kept.add, self.journal, self.world, self.stopping):
                    return False
        return True

    def _scored(
        self, gathered: GatheredRollout, name: str, model: Reference | ValueModel | None, loader: BatchLoader
    ) -> Iterator[list[ScoresRecord]]:
        """What this rank hands on of what `model` says, a batch each; none where that is known."""
        batch_size, valued = self.settings.batch, isinstance(model, ValueModel)
        for update in range(-(-self.settings.samples // batch_size)):
            self.reporter.enter(RankPhase.SCORING, progress=update * batch_size)
            batch, mine = loader.build(gathered.step + update), list[ScoresRecord]()
            keys = [self._key(gathered, number) for number in batch.sample_ids.tolist() if number >= 0]
            if not all((name, key) in gathered.kept.scores for key in keys):
                told = self._told(batch, model)
                for micro, scores in zip(batch.micro_batches, told if self._hands_on else (), strict=False):
                    rows = scores[-1].cpu().numpy()
                    mine += self._records(gathered, name, valued, batch, micro.places.tolist(), rows)
            yield mine

    def _key(self, gathered: GatheredRollout, number: int) -> SampleKey:
        """Of the answer that has that number in a batch."""
        return SampleKey(gathered.step, *divmod(number, self.settings.group))

    def _told(self, batch: StepBatch, model: Reference | ValueModel | None) -> list[Tensor]:
        """fp32 [numbers, n, S] of each micro-batch; the last number is the one that is kept. Collective."""
        if isinstance(model, ValueModel):
            return model.stepper.values(batch)
        return self.stepper.scores(batch, asked_of(self.settings.rule.temperature), model)

    @property
    def _hands_on(self) -> bool:
        """Of the ranks that know the scores of the same rows, the first."""
        place = self.grid.coordinates
        return place.tensor == place.context == 0

    def _records(
        self,
        gathered: GatheredRollout,
        name: str,
        valued: bool,
        batch: StepBatch,
        places: Sequence[int],
        rows: Float32s,
    ) -> list[ScoresRecord]:
        """Of the rows of a micro-batch, fp32 [n, places]; `valued`: of all places that have a value."""
        records = []
        for place, row in zip(places, rows, strict=True):
            number = order.FILLER if place == order.FILLER else int(batch.sample_ids[place])
            if number == order.FILLER:
                continue
            key = self._key(gathered, number)
            sample = gathered.kept.samples[key]
            first = len(self.prompts.at(key.prompt).tokens) - 1
            length = len(sample.tokens)
            end = first + (places_of(self.settings, length) if valued else length)
            values = np.ascontiguousarray(row[first:end])
            records.append(ScoresRecord(key, sample.mark, name, values))
        return records


def is_scored(gathered: GatheredRollout, group: int, name: str) -> bool:
    """Whether all answers of a rollout have scores of that name."""
    return all((name, key) in gathered.kept.scores for keys in gathered.keys(group) for key in keys)
