"""Training steps on rollouts, including the rollout before the first of them.

To the training loop these are batches like any other: a function of the step's number. The slow work happens
before the first step of each rollout: answers, their rewards, and the log-probabilities that a loss needs
from other models, or from the policy before its update. All of that is in the journal, so that a start in the
middle of a rollout reads it, even though the weights that could compute it are gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.training_state import RolloutPosition, RunningScores
from footplate_trainer.data.loader import BatchLoader, StepBatch
from footplate_trainer.data.prompt_dataset import PromptOrder
from footplate_trainer.errors import NumericalDivergence
from footplate_trainer.model.policy_loss import ADVANTAGE, COEFFICIENT, REFERENCE, SAMPLER
from footplate_trainer.parallel.value_objective import OLD_VALUE, RETURN
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rewards.reward_samples import RolloutSample, SampleKey, Unrewarded
from footplate_trainer.rewards.sums import describe_largest
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.advantages import (
    Advantages,
    compute_advantages,
    next_coefficient,
    parse_outcomes,
    reference_kl,
    resumed_kl_coefficient,
)
from footplate_trainer.rollout.answer_dataset import AnswerRow, RowBatcher
from footplate_trainer.rollout.collector import RolloutCollector
from footplate_trainer.rollout.journal import Journal, flush_journals
from footplate_trainer.rollout.journal_keys import JournalKey, JournalKeyBuilder, Weights
from footplate_trainer.rollout.journal_records import CollectedRollout, Float32s, SampleRecord
from footplate_trainer.rollout.reward_model import MODEL
from footplate_trainer.rollout.reward_normalization import (
    RewardNormalizer,
    normalize_rewards,
    normalized_reward_sums,
)
from footplate_trainer.rollout.scores import Models, RolloutScorer, is_scored
from footplate_trainer.rollout.settings import RolloutSettings
from footplate_trainer.rollout.unrewarded import UnrewardedAnswers
from footplate_trainer.rollout.value_targets import with_value_advantages

MakeAnswer = Callable[..., AnswerRow]
"""Of a rollout's answer, by its key, what a model learns."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CurrentRollout:
    """A rollout in training."""

    gathered: CollectedRollout
    learnt: Advantages
    loader: BatchLoader
    values: BatchLoader | None  # with values: what the value model learns of the same answers
    begin: RolloutPosition
    following: RolloutPosition  # where the next one begins

    def largest_reward(self, group: int, normaliser: RewardNormalizer | None) -> str:
        """Describe the largest reward of counted answers (see `largest`), with model scores normalised."""
        gathered = self.gathered
        keys = [key for siblings in gathered.keys(group) for key in siblings]
        counted = [key for key in keys if not isinstance(gathered.sums[key], Unrewarded)]
        rewards: Mapping[SampleKey, Mapping[str, float | str]]
        rewards = {key: gathered.kept.rewards.get(key, {}) for key in counted}
        if normaliser is not None:
            rewards = normalize_rewards(rewards, counted, normaliser, self.following.scores)
        return describe_largest(rewards, gathered.weights)


def with_normalized_rewards(
    gathered: CollectedRollout, group: int, normaliser: RewardNormalizer | None, before: RunningScores | None
) -> tuple[CollectedRollout, RunningScores | None]:
    """Return `gathered` with sums of normalised reward model scores, and the running statistics after it.

    A journal has more answers than its rollout if the run had more samples before: those count nowhere.
    """
    if normaliser is None:
        return gathered, None
    rewards, keys = gathered.kept.rewards, [key for siblings in gathered.keys(group) for key in siblings]
    known = normaliser.update(
        before, [score for key in keys if isinstance(score := rewards[key][MODEL], float)]
    )
    sums = normalized_reward_sums(rewards, keys, gathered.weights, normaliser, known)
    return replace(gathered, sums=sums), known


class RolloutBatches:
    """Batches of a stage that trains on its own answers."""

    def __init__(
        self,
        settings: RolloutSettings,
        collector: RolloutCollector,
        scorer: RolloutScorer,
        models: Models,
        prompts: PromptOrder,
        journal: Journal,
        store: CheckpointStore,
        world: DistributedContext,
        rows: RowBatcher,
        normaliser: RewardNormalizer | None,
        position: RolloutPosition | None,
        keys: JournalKeyBuilder,
        weights: Callable[[], Weights],
    ) -> None:
        """Store what rollouts need; `normaliser` is for a reward model's scores, if there is one.

        `position` is the checkpoint's position to continue from; None without one. `keys` build journal keys
        from `weights`, which is collective and returns checksums of the current trained weights.
        """
        self._settings, self._collector, self._prompts = settings, collector, prompts
        self._scorer, self._models = scorer, models
        self._journal, self._store = journal, store
        self._world, self._rows, self._normaliser = world, rows, normaliser
        self._known = position and position.model_copy(
            update={"coefficient": resumed_kl_coefficient(settings, position.coefficient)}
        )
        self._keys, self._weights = keys, weights
        self.current: CurrentRollout | None = None  # that the last step was of

    def step(self, step: int) -> StepBatch | None:
        """Return the batch of `step`, from 0; None if stopped before it was ready. Collective."""
        begun = self._settings.rollout_start_step(step + 1)
        if self.current is None or self.current.begin.step != begun:
            self._forget()
            position, key = self._begins(begun)
            gathered = self._collector.collect(begun, position.prompt, key)
            if gathered is None:
                return None
            if step > begun:
                self._warn_of_gaps(gathered, step)
            rollout = self._rollout(gathered, position)
            if rollout is None:
                return None
            self.current = rollout
        return self.current.loader.build(step)

    def value_batch(self, number: int) -> StepBatch:
        """Return the value model's batch of step `number`, from 1, of the current rollout."""
        assert self.current is not None and self.current.values is not None
        return self.current.values.build(number - 1)

    def position(self, step: int) -> RolloutPosition:
        """Return the position that a checkpoint after `step` stores, to continue from there."""
        return self._position(self._settings.rollout_start_step(step + 1))

    def key(self, number: int) -> SampleKey:
        """Return the key of the current rollout's answer with that number in a batch's `sample_ids`."""
        assert self.current is not None
        return SampleKey(self.current.begin.step, *divmod(number, self._settings.group))

    @contextmanager
    def naming_rewards(self) -> Iterator[None]:
        """Add the largest reward of the current rollout, a possible cause, to a NumericalDivergence."""
        try:
            yield
        except NumericalDivergence as error:
            current = self.current
            told = "" if current is None else current.largest_reward(self._settings.group, self._normaliser)
            if not told:
                raise
            raise NumericalDivergence(f"{error}; {told}", rank=error.rank, step=error.step) from error

    def build_reward_input(self, sample: SampleRecord) -> RolloutSample:
        """Return an answer with its prompt, as reward functions receive it."""
        return self._collector.build_reward_input(sample)

    def prompt_number(self, place: int) -> int:
        """Return the number, over all folders, of the prompt at an index of the endless order."""
        return self._prompts.prompt_id(place)

    def close(self) -> None:
        """End training: flush the journal, close it, and remove journals that all checkpoints are beyond."""
        flush_journals(self._journal, self._world)
        self._journal.close()
        self._forget()

    def _begins(self, begun: int) -> tuple[RolloutPosition, JournalKey]:
        """Return the start of the rollout that begins after step `begun`, and its journal key. Collective."""
        position = self._position(begun)
        # Where a checkpoint within a rollout does not say which drew it, those of now draw it again.
        weights = position.weights or dict(self._weights())
        return position.model_copy(update={"weights": weights}), self._keys.build(weights)

    def _position(self, begun: int) -> RolloutPosition:
        """Return the position of the rollout that begins after step `begun`: current, next, or a start's."""
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
        """Remove obsolete journals; training does not depend on it."""
        if self._world.rank != 0:
            return
        try:
            journal.delete_obsolete_journals(self._store.folder, self._store.steps(), self._settings.updates)
        except OSError as error:
            _log.warning("cannot remove journals of completed rollouts: %s", error)

    def _warn_of_gaps(self, gathered: CollectedRollout, step: int) -> None:
        missing = gathered.drawn
        if missing and self._world.rank == 0:
            _log.warning(
                "step %d: %d answers of the rollout of step %d are missing from the journal, and were "
                "generated again with newer weights",
                step + 1,
                missing,
                gathered.step,
            )

    def _rollout(self, gathered: CollectedRollout, begin: RolloutPosition) -> CurrentRollout | None:
        """Build a rollout whose answers are rewarded; None if stopped. Collective."""
        settings, before = self._settings, gathered.sums
        gathered, scores = with_normalized_rewards(gathered, settings.group, self._normaliser, begin.scores)
        keys = gathered.keys(settings.group)
        sums = [[gathered.sums[key] for key in group] for group in keys]
        unrewarded = UnrewardedAnswers.of(gathered, {**before, **gathered.sums}, settings.group)
        unrewarded.check(settings.max_missing_reward_ratio)
        if self._world.rank == 0 and (warning := unrewarded.warning()):
            _log.warning("%s", warning)
        self._collector.record_unsettled(gathered)
        found = compute_advantages(
            settings,
            [[gathered.kept.samples[key] for key in group] for group in keys],
            sums,
            [parse_outcomes(gathered.kept.rewards[key]) for group in keys for key in group],
            gathered.asked,
        )
        found = replace(found, values={**found.values, **unrewarded.values})
        plain = self._loader(gathered, found, begin, self._answer, once=True)
        if not self._scorer.complete(gathered, self._models, plain):
            return None
        divergence = reference_kl(settings, gathered, found)
        following = RolloutPosition(
            step=begin.step + settings.updates,
            prompt=begin.prompt + gathered.asked,
            coefficient=next_coefficient(settings, begin.coefficient, divergence),
            scores=scores,
        )
        if divergence is not None:
            apart = {"kl/answer": divergence, "kl/coefficient": begin.coefficient}
            found = replace(found, values={**found.values, **apart})
        if settings.values is None:
            loader = self._loader(gathered, found, begin, self._answer)
            return CurrentRollout(gathered, found, loader, None, begin, following)
        found, appraisal = with_value_advantages(settings, gathered, found, begin.coefficient)
        loader = self._loader(gathered, found, begin, partial(self._answer, of_tokens=appraisal.advantages))
        values = self._loader(gathered, found, begin, partial(self._valued, appraisal.places))
        return CurrentRollout(gathered, found, loader, values, begin, following)

    def _loader(
        self,
        gathered: CollectedRollout,
        found: Advantages,
        begin: RolloutPosition,
        answer: MakeAnswer,
        *,
        once: bool = False,
    ) -> BatchLoader:
        """Build rows of the rollout's answers, with all numbers known so far; `once`: see Rows."""
        flat = [key for group in gathered.keys(self._settings.group) for key in group]
        counted, advantages = found.counted.flatten().tolist(), found.advantages.flatten().tolist()
        told = self._told(gathered)
        make = self._rows.once if once else self._rows.loader
        return make(
            {
                key.prompt * self._settings.group + key.sibling: answer(
                    gathered,
                    key,
                    told,
                    counts=counts,
                    advantage=advantage,
                    coefficient=begin.coefficient,
                )
                for key, counts, advantage in zip(flat, counted, advantages, strict=True)
            },
            begin.step,
        )

    def _answer(
        self,
        gathered: CollectedRollout,
        key: SampleKey,
        names: list[str],
        *,
        counts: bool,
        advantage: float,
        coefficient: float,
        of_tokens: Mapping[SampleKey, Float32s] | None = None,
    ) -> AnswerRow:
        """Build the policy's training row: with one advantage, or with one for each token."""
        sample, scores = gathered.kept.samples[key], gathered.kept.scores
        alike = np.full(len(sample.tokens), advantage, dtype=np.float32)
        told: Mapping[str, Float32s] = {
            ADVANTAGE: alike if of_tokens is None else of_tokens[key],
            SAMPLER: sample.full,
            **{name: scores[name, key] for name in names},
        }
        prompt = self._prompts.at(key.prompt).tokens
        return AnswerRow(
            prompt, sample.tokens, counts, token_values=told, sequence_values={COEFFICIENT: coefficient}
        )

    def _valued(
        self,
        places: Mapping[SampleKey, Mapping[str, Float32s]],
        gathered: CollectedRollout,
        key: SampleKey,
        names: list[str],
        *,
        counts: bool,
        advantage: float,
        coefficient: float,
    ) -> AnswerRow:
        """Build the value model's training row."""
        sample, told = gathered.kept.samples[key], places[key]
        prompt = self._prompts.at(key.prompt).tokens
        behind = len(told[RETURN]) - len(sample.tokens)
        return AnswerRow(prompt, sample.tokens, counts, behind, told)

    def _told(self, gathered: CollectedRollout) -> list[str]:
        """Return names of the scores that the policy's loss reads; advantages include a KL in the reward."""
        values, group = self._settings.values, self._settings.group
        passed = {OLD_VALUE, *({REFERENCE} if values is not None and values.kl_in_reward else ())}
        return [name for name in self._models if name not in passed and is_scored(gathered, group, name)]
