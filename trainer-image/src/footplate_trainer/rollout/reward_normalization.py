"""Normalization of a reward model's scores by a mean and a deviation: pure.

A reward model is trained on differences: the location and width of its scores are arbitrary, and would act
as a learning rate and a bias of the value model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from footplate_contracts.v1alpha1.reward import RewardNormalization
from footplate_trainer.checkpoint.training_state import HeldOutScores, RunningScores
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey
from footplate_trainer.rollout.advantages import sums_of
from footplate_trainer.rollout.reward_model import MODEL

VARIANCE_EPSILON: Final = 1e-8


@dataclass(frozen=True)
class RewardNormalizer:
    """A run's method of normalization."""

    how: RewardNormalization
    held_out: HeldOutScores | None = None  # with heldOut

    def update(self, before: RunningScores | None, scores: Sequence[float]) -> RunningScores | None:
        """Return running statistics that include a rollout's `scores`; None if the method needs none."""
        if self.how is not RewardNormalization.RUNNING:
            return None
        return update_running_scores(before or RunningScores(), scores)

    def normalised(self, score: float, known: RunningScores | None) -> float:
        """Return `score`, less a mean and divided by a deviation; unchanged without normalization.

        `known` includes all answers that were trained on, also those of the score's own rollout.
        """
        if self.how is RewardNormalization.HELD_OUT:
            assert self.held_out is not None, "checked when the reward model was opened"
            return (score - self.held_out.mean) / self.held_out.deviation
        if self.how is RewardNormalization.RUNNING:
            assert known is not None
            variance = known.squares / max(1, known.count - 1)
            return (score - known.mean) / math.sqrt(variance + VARIANCE_EPSILON)
        return score


def normalized_reward_sums(
    rewards: Mapping[SampleKey, Mapping[str, float | str]],
    keys: Iterable[SampleKey],
    weights: Mapping[str, float],
    normaliser: RewardNormalizer,
    known: RunningScores | None = None,
) -> dict[SampleKey, Outcome]:
    """Return sums as `sums_of` does, for the answers `keys`, with the reward model's scores normalised."""
    return sums_of(normalize_rewards(rewards, keys, normaliser, known), weights)


def normalize_rewards(
    rewards: Mapping[SampleKey, Mapping[str, float | str]],
    keys: Iterable[SampleKey],
    normaliser: RewardNormalizer,
    known: RunningScores | None = None,
) -> dict[SampleKey, Mapping[str, float | str]]:
    """Return `rewards` of the answers `keys`, with the reward model's scores normalised."""
    shown = {}
    for key in keys:
        told = rewards[key]
        score = told.get(MODEL)
        shown[key] = (
            {**told, MODEL: normaliser.normalised(score, known)} if isinstance(score, float) else told
        )
    return shown


def update_running_scores(before: RunningScores, scores: Sequence[float]) -> RunningScores:
    """Merge `scores` into `before` (Chan et al. 1979); non-finite scores are ignored."""
    given = [score for score in scores if math.isfinite(score)]
    if not given:
        return before
    mean = math.fsum(given) / len(given)
    squares = math.fsum((score - mean) ** 2 for score in given)
    count, apart = before.count + len(given), mean - before.mean
    return RunningScores(
        count=count,
        mean=before.mean + apart * len(given) / count,
        squares=before.squares + squares + apart**2 * before.count * len(given) / count,
    )
