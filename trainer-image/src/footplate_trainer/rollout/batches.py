"""The steps that a rollout is trained on, and the rollout before the first of them.

To whoever trains these are batches like any other: a function of the step's number. What takes long is behind
the first of each rollout: answers, their rewards, and where a rollout is trained on several times the
log-probabilities that they had before the first. All of that is in the journal, so that a start in the middle
of a rollout finds it, though weights that could compute it are gone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from footplate_contracts.reports import RankPhase
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.record import RolloutPosition
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data import order
from footplate_trainer.data.loader import BatchLoader, StepBatch
from footplate_trainer.data.prompt_dataset import PromptOrder
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.metrics.stopwatch import StepPart
from footplate_trainer.model.policy_judge import ADVANTAGE, OLD, SAMPLER, asked_of
from footplate_trainer.parallel import agree
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.world import World
from footplate_trainer.rewards.samples import SampleKey, Unrewarded
from footplate_trainer.rewards.sums import UnrewardedShare, reasons
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.answers import AnswerDataset, TrainedAnswer, width_of
from footplate_trainer.rollout.gathering import GatheredRollout, Gatherer
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.learning import Learnt, learnt, outcomes_of
from footplate_trainer.rollout.records import Float32s, ScoresRecord
from footplate_trainer.rollout.settings import RolloutSettings

_log = logging.getLogger(__name__)

_POLICY = "policy"  # whose log-probabilities the journal keeps


@dataclass(frozen=True)
class RowShape:
    """What rows look like."""

    context: int
    multiple: int  # that a row's places have to be of
    fixed: bool  # all rows of a run are of one width
    pad: int
    micro_batch: int


class RolloutBatches:
    """Batches of a stage that learns from its own answers."""

    def __init__(
        self,
        settings: RolloutSettings,
        gatherer: Gatherer,
        prompts: PromptOrder,
        journal: Journal,
        store: CheckpointStore,
        stepper: Stepper,
        grid: Grid,
        world: World,
        reporter: Reporter,
        rows: RowShape,
        data_seed: int,
        position: RolloutPosition | None,
    ) -> None:
        """`position` is what the checkpoint says that training goes on from; None: there is none."""
        self._settings, self._gatherer, self._prompts = settings, gatherer, prompts
        self._journal, self._store = journal, store
        self._stepper, self._grid, self._world, self._reporter = stepper, grid, world, reporter
        self._rows, self._data_seed = rows, data_seed
        self._position = position
        self._current: GatheredRollout | None = None
        self._loader: BatchLoader | None = None
        self.values: Mapping[str, float] = {}  # of the rollout that the last step was of

    def step(self, step: int) -> StepBatch | None:
        """The batch of `step`, from 0; None where it was stopped before there was one. Collective."""
        begun = self._settings.begun(step + 1)
        if self._current is None or self._current.step != begun:
            self._forget()
            first = self._first(begun)
            gathered = self._gatherer.gather(begun, first)
            if gathered is None:
                return None
            if step > begun:
                self._warn_of_gaps(gathered, step)
            self._take(gathered)
        assert self._loader is not None
        return self._loader.build(step)

    def position(self, step: int) -> RolloutPosition:
        """What a checkpoint after `step` has to say, to go on from there."""
        begun = self._settings.begun(step + 1)
        return RolloutPosition(step=begun, prompt=self._first(begun))

    def close(self) -> None:
        """Training has ended: nobody needs a journal that all checkpoints are beyond."""
        self._journal.close()
        self._forget()

    def _first(self, begun: int) -> int:
        """Where the rollout that begins after step `begun` begins in the order of prompts."""
        current = self._current
        if current is not None and begun == current.step:
            return current.first
        if current is not None and begun == current.step + self._settings.updates:
            return current.first + current.asked
        if self._position is not None and self._position.step == begun:
            return self._position.prompt
        return begun // self._settings.updates * self._settings.groups.prompts

    def _forget(self) -> None:
        """Remove journals that are over; training does not depend on it."""
        if self._world.rank != 0:
            return
        try:
            journal.forget(self._store.folder, self._store.steps(), self._settings.updates)
        except OSError as error:
            _log.warning("journals of rollouts that are over cannot be removed: %s", error)

    def _warn_of_gaps(self, gathered: GatheredRollout, step: int) -> None:
        missing = gathered.drawn
        if missing and self._world.rank == 0:
            _log.warning(
                "step %d: %d answers of the rollout of step %d are in no journal now, and were drawn again"
                " with weights that have been trained since",
                step + 1,
                missing,
                gathered.step,
            )

    def _take(self, gathered: GatheredRollout) -> None:
        """Make batches of a rollout."""
        settings = self._settings
        keys = gathered.keys(settings.group)
        sums = [[gathered.sums[key] for key in group] for group in keys]
        unrewarded = {
            key: told for group in keys for key in group if isinstance(told := gathered.sums[key], Unrewarded)
        }
        UnrewardedShare(settings.samples, len(unrewarded)).check(settings.max_unrewarded, reasons(unrewarded))
        found = learnt(
            settings,
            [[gathered.kept.samples[key] for key in group] for group in keys],
            sums,
            [outcomes_of(gathered.kept.rewards[key]) for group in keys for key in group],
            gathered.asked,
        )
        self._current, self.values = gathered, found.values
        self._deal(gathered, found)
        if settings.updates > 1 and not self._is_scored(gathered):
            self._score(gathered)
            self._deal(gathered, found)

    def _deal(self, gathered: GatheredRollout, found: Learnt) -> None:
        """Rows of the rollout's answers, with all that is known of them by now."""
        settings, rows = self._settings, self._rows
        answers: dict[int, TrainedAnswer] = {}
        flat = [key for group in gathered.keys(settings.group) for key in group]
        scored = settings.updates > 1 and self._is_scored(gathered)
        for key, counts, advantage in zip(
            flat, found.counted.flatten().tolist(), found.advantages.flatten().tolist(), strict=True
        ):
            sample = gathered.kept.samples[key]
            told: dict[str, Float32s] = {
                ADVANTAGE: np.full(len(sample.tokens), advantage, dtype=np.float32),
                SAMPLER: sample.full,
            }
            if scored:
                told[OLD] = gathered.kept.scores[_POLICY, key]
            prompt = self._prompts.at(key.prompt).tokens
            number = key.prompt * settings.group + key.sibling
            answers[number] = TrainedAnswer(prompt, sample.tokens, bool(counts), told)
        longest = [len(answer) for answer in answers.values()]
        width = rows.context if rows.fixed else width_of(longest, rows.context, rows.multiple)
        first_index = gathered.step * settings.batch
        epoch = gathered.step // settings.updates * settings.epochs
        self._loader = BatchLoader(
            AnswerDataset(answers, first_index, epoch, width, rows.pad),
            seed=self._data_seed,
            global_batch_size=settings.batch,
            micro_batch_size=rows.micro_batch,
            data_rank=self._grid.coordinates.data,
            data_degree=self._grid.topology.data,
        )

    def _is_scored(self, gathered: GatheredRollout) -> bool:
        keys = (key for group in gathered.keys(self._settings.group) for key in group)
        return all((_POLICY, key) in gathered.kept.scores for key in keys)

    def _score(self, gathered: GatheredRollout) -> None:
        """Know what the policy says of each answer before its first update, and keep it. Collective."""
        loader, mine = self._loader, []
        assert loader is not None
        asked = asked_of(self._settings.rule.temperature)
        with self._stepper.stopwatch.time(StepPart.SCORING):
            for update in range(-(-self._settings.samples // self._settings.batch)):
                self._reporter.enter(RankPhase.SCORING, progress=update * self._settings.batch)
                batch = loader.build(gathered.step + update)
                for micro, scores in zip(
                    batch.micro_batches, self._stepper.scores(batch, asked), strict=False
                ):
                    if self._hands_on:
                        mine += self._records(
                            gathered, batch, micro.places.tolist(), scores[-1].cpu().numpy()
                        )
            self._reporter.enter(RankPhase.COLLECTIVE)
            self._journal.add(mine)
            self._journal.flush()
            for records in agree.gather(mine, self._world.everybody):
                gathered.kept.add(records)

    @property
    def _hands_on(self) -> bool:
        """Of the ranks that know the scores of the same rows, the first."""
        place = self._grid.coordinates
        return place.tensor == place.context == 0

    def _records(
        self, gathered: GatheredRollout, batch: StepBatch, places: list[int], rows: Float32s
    ) -> list[ScoresRecord]:
        """Of the rows of a micro-batch, fp32 [n, places]."""
        records = []
        for place, row in zip(places, rows, strict=True):
            if place == order.FILLER:
                continue
            prompt, sibling = divmod(int(batch.sample_ids[place]), self._settings.group)
            key = SampleKey(gathered.step, prompt, sibling)
            sample = gathered.kept.samples[key]
            first = len(self._prompts.at(prompt).tokens) - 1
            values = np.ascontiguousarray(row[first : first + len(sample.tokens)])
            records.append(ScoresRecord(key, sample.mark, _POLICY, values))
        return records
