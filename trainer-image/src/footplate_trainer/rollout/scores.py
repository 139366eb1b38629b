"""Model scores of a rollout's answers before it is trained on: computed once for all of its updates.

The policy's log-probabilities are lost with its weights after the first update, and those of a reference cost
a pass each time; so both are in the journal beside the answers. Answers are scored and journalled a batch at
a time: an interrupted batch is computed again from the same rows.
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
from footplate_trainer.model.policy_loss import OLD, policy_score_request
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.reference import Reference
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.journal import Journal, journal_batches
from footplate_trainer.rollout.journal_records import CollectedRollout, Float32s, ScoresRecord
from footplate_trainer.rollout.settings import RolloutSettings
from footplate_trainer.rollout.value_targets import value_position_count as places_of


@dataclass(frozen=True)
class ValueScorer:
    """A model that scores positions by expected return instead of tokens by log-probability."""

    stepper: Stepper


Models = Mapping[str, Reference | ValueScorer | None]
"""Whose log-probabilities, or values, a loss wants, by its name for them; None: the policy's."""

POLICY: Final[Models] = {OLD: None}


@dataclass(frozen=True)
class RolloutScorer:
    """A scorer that computes and journals the models' scores."""

    settings: RolloutSettings
    prompts: PromptOrder
    stepper: Stepper
    journal: Journal
    grid: Grid
    world: DistributedContext
    reporter: Reporter
    stopping: Callable[[], bool]

    def complete(self, gathered: CollectedRollout, models: Models, loader: BatchLoader) -> bool:
        """Score all answers, of which `loader` makes rows once, with all `models`; False if stopped first.

        Collective.
        """
        for name, model in models.items():
            if is_scored(gathered, self.settings.group, name):
                continue
            with self.stepper.stopwatch.time(StepPart.SCORING):
                batches = self._scored(gathered, name, model, loader)
                if not journal_batches(batches, gathered.kept.add, self.journal, self.world, self.stopping):
                    return False
        return True

    def _scored(
        self,
        gathered: CollectedRollout,
        name: str,
        model: Reference | ValueScorer | None,
        loader: BatchLoader,
    ) -> Iterator[list[ScoresRecord]]:
        """Yield this rank's records of `model` by batch; an empty list if another rank reports them.

        A batch whose scores are already known yields an empty list, too.
        """
        batch_size, valued = self.settings.batch, isinstance(model, ValueScorer)
        for update in range(-(-self.settings.samples // batch_size)):
            self.reporter.report_phase(RankPhase.SCORING, progress=update * batch_size)
            batch, mine = loader.build(gathered.step + update), list[ScoresRecord]()
            keys = [self._key(gathered, number) for number in batch.sample_ids.tolist() if number >= 0]
            if not all((name, key) in gathered.kept.scores for key in keys):
                told = self._told(batch, model)
                for micro, scores in zip(batch.micro_batches, told if self._hands_on else (), strict=False):
                    rows = scores[-1].cpu().numpy()
                    mine += self._records(gathered, name, valued, batch, micro.places.tolist(), rows)
            yield mine

    def _key(self, gathered: CollectedRollout, number: int) -> SampleKey:
        """Return the key of the answer that has that number in a batch."""
        return SampleKey(gathered.step, *divmod(number, self.settings.group))

    def _told(self, batch: StepBatch, model: Reference | ValueScorer | None) -> list[Tensor]:
        """Return fp32 [numbers, n, S] of each micro-batch; the last number is the one stored. Collective."""
        if isinstance(model, ValueScorer):
            return model.stepper.values(batch)
        return self.stepper.scores(batch, policy_score_request(self.settings.rule.temperature), model)

    @property
    def _hands_on(self) -> bool:
        """True on the first of the ranks that compute the same rows' scores."""
        place = self.grid.coordinates
        return place.tensor == place.context == 0

    def _records(
        self,
        gathered: CollectedRollout,
        name: str,
        valued: bool,
        batch: StepBatch,
        places: Sequence[int],
        rows: Float32s,
    ) -> list[ScoresRecord]:
        """Build records of a micro-batch's rows, fp32 [n, positions]; `valued`: of all valued positions."""
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


def is_scored(gathered: CollectedRollout, group: int, name: str) -> bool:
    """Return whether all answers of a rollout have scores of that name."""
    return all((name, key) in gathered.kept.scores for keys in gathered.keys(group) for key in keys)
