"""The steps that a rollout is trained on, and the rollout before the first of them.

To whoever trains these are batches like any other: a function of the step's number. What takes long is
behind the first of each rollout: answers, their rewards, and the log-probabilities that a loss wants of other
models, or of the policy as it was. All of that is in the journal, so that a start in the middle of a rollout
finds it, though weights that could compute it are gone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from footplate_trainer.checkpoint.record import RolloutPosition
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.loader import BatchLoader, StepBatch
from footplate_trainer.data.prompt_dataset import PromptOrder
from footplate_trainer.model.policy_judge import ADVANTAGE, COEFFICIENT, SAMPLER
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.world import World
from footplate_trainer.rewards.samples import RolloutSample, SampleKey, Unrewarded
from footplate_trainer.rewards.sums import UnrewardedShare, reasons
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.answers import AnswerDataset, TrainedAnswer, width_of
from footplate_trainer.rollout.gathering import Gatherer
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.kept import GatheredRollout
from footplate_trainer.rollout.learning import Learnt, divergence_of, learnt, next_coefficient, outcomes_of
from footplate_trainer.rollout.records import Float32s, SampleRecord
from footplate_trainer.rollout.scores import Models, Scorer, is_scored
from footplate_trainer.rollout.settings import RolloutSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowShape:
    """What rows look like."""

    context: int
    multiple: int  # that a row's places have to be of
    fixed: bool  # all rows of a run are of one width
    pad: int
    micro_batch: int


@dataclass(frozen=True)
class CurrentRollout:
    """A rollout that is trained on."""

    gathered: GatheredRollout
    learnt: Learnt
    loader: BatchLoader
    begin: RolloutPosition
    following: RolloutPosition  # where the next one begins


class RolloutBatches:
    """Batches of a stage that learns from its own answers."""

    def __init__(
        self,
        settings: RolloutSettings,
        gatherer: Gatherer,
        scorer: Scorer,
        models: Models,
        prompts: PromptOrder,
        journal: Journal,
        store: CheckpointStore,
        grid: Grid,
        world: World,
        rows: RowShape,
        data_seed: int,
        position: RolloutPosition | None,
    ) -> None:
        """`position` is what the checkpoint says that training goes on from; None: there is none."""
        self._settings, self._gatherer, self._prompts = settings, gatherer, prompts
        self._scorer, self._models = scorer, models
        self._journal, self._store = journal, store
        self._grid, self._world, self._rows, self._data_seed = grid, world, rows, data_seed
        self._known = position
        self.current: CurrentRollout | None = None  # that the last step was of

    def step(self, step: int) -> StepBatch | None:
        """The batch of `step`, from 0; None where it was stopped before there was one. Collective."""
        begun = self._settings.begun(step + 1)
        if self.current is None or self.current.begin.step != begun:
            self._forget()
            position = self._position(begun)
            gathered = self._gatherer.gather(begun, position.prompt)
            if gathered is None:
                return None
            if step > begun:
                self._warn_of_gaps(gathered, step)
            self.current = self._rollout(gathered, position)
        return self.current.loader.build(step)

    def position(self, step: int) -> RolloutPosition:
        """What a checkpoint after `step` has to say, to go on from there."""
        return self._position(self._settings.begun(step + 1))

    def key(self, number: int) -> SampleKey:
        """Of an answer of the current rollout, by its number in a batch's `sample_ids`."""
        assert self.current is not None
        return SampleKey(self.current.begin.step, *divmod(number, self._settings.group))

    def rewarded(self, sample: SampleRecord) -> RolloutSample:
        """An answer with its prompt, as rewards see both."""
        return self._gatherer.shown(sample)

    def prompt_number(self, place: int) -> int:
        """Which prompt of all folders stands at a place of the endless order."""
        return self._prompts.number(place)

    def close(self) -> None:
        """Training has ended: nobody needs a journal that all checkpoints are beyond."""
        self._journal.close()
        self._forget()

    def _position(self, begun: int) -> RolloutPosition:
        """Of the rollout that begins after step `begun`: this one, the next, or that of the start."""
        known = [self._known]
        if self.current is not None:
            known += [self.current.begin, self.current.following]
        for position in known:
            if position is not None and position.step == begun:
                return position
        rollouts = begun // self._settings.updates
        first = rollouts * self._settings.groups.prompts
        return RolloutPosition(step=begun, prompt=first, coefficient=self._settings.coefficient)

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

    def _rollout(self, gathered: GatheredRollout, begin: RolloutPosition) -> CurrentRollout:
        """All that is known of a rollout once its answers are rewarded. Collective."""
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
        self._scorer.complete(gathered, self._models, self._loader(gathered, found, begin))
        divergence = divergence_of(settings, gathered, found)
        following = RolloutPosition(
            step=begin.step + settings.updates,
            prompt=begin.prompt + gathered.asked,
            coefficient=next_coefficient(settings, begin.coefficient, divergence),
        )
        if divergence is not None:
            apart = {"kl/answer": divergence, "kl/coefficient": begin.coefficient}
            found = replace(found, values={**found.values, **apart})
        loader = self._loader(gathered, found, begin)
        return CurrentRollout(gathered, found, loader, begin, following)

    def _loader(self, gathered: GatheredRollout, found: Learnt, begin: RolloutPosition) -> BatchLoader:
        """Rows of the rollout's answers, with all that is known of them by now."""
        settings, rows = self._settings, self._rows
        names = [name for name in self._models if is_scored(gathered, settings.group, name)]
        flat = [key for group in gathered.keys(settings.group) for key in group]
        counted, advantages = found.counted.flatten().tolist(), found.advantages.flatten().tolist()
        answers: dict[int, TrainedAnswer] = {}
        for key, counts, advantage in zip(flat, counted, advantages, strict=True):
            number = key.prompt * settings.group + key.sibling
            answers[number] = self._answer(gathered, key, names, bool(counts), advantage, begin.coefficient)
        longest = [len(answer) for answer in answers.values()]
        width = rows.context if rows.fixed else width_of(longest, rows.context, rows.multiple)
        epoch = begin.step // settings.updates * settings.epochs
        return BatchLoader(
            AnswerDataset(answers, begin.step * settings.batch, epoch, width, rows.pad),
            seed=self._data_seed,
            global_batch_size=settings.batch,
            micro_batch_size=rows.micro_batch,
            data_rank=self._grid.coordinates.data,
            data_degree=self._grid.topology.data,
        )

    def _answer(
        self,
        gathered: GatheredRollout,
        key: SampleKey,
        names: list[str],
        counts: bool,
        advantage: float,
        coefficient: float,
    ) -> TrainedAnswer:
        sample = gathered.kept.samples[key]
        told: Mapping[str, Float32s] = {
            ADVANTAGE: np.full(len(sample.tokens), advantage, dtype=np.float32),
            SAMPLER: sample.full,
            **{name: gathered.kept.scores[name, key] for name in names},
        }
        prompt = self._prompts.at(key.prompt).tokens
        return TrainedAnswer(prompt, sample.tokens, counts, told, {COEFFICIENT: coefficient})
