"""What steps are trained on, of what a journal has."""

from __future__ import annotations

import math

import pytest

from footplate_contracts.v1alpha1.reward import RewardNormalization
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.batches import with_normalized_rewards
from footplate_trainer.rollout.journal_records import CollectedRollout, RolloutState
from footplate_trainer.rollout.reward_model import MODEL
from footplate_trainer.rollout.reward_normalization import RewardNormalizer


def test_scores_of_answers_that_are_no_longer_in_the_rollout_count_nowhere() -> None:
    """A run that is given fewer samples finds more in the journal."""
    scores = {SampleKey(4, prompt, 0): score for prompt, score in ((7, 1.0), (8, 3.0), (9, 100.0))}
    kept = RolloutState(rewards={key: {MODEL: score} for key, score in scores.items()})
    gathered = CollectedRollout(4, 7, 2, [7, 8], 0, kept, dict(scores), {MODEL: 1.0})
    rollout, known = with_normalized_rewards(gathered, 1, RewardNormalizer(RewardNormalization.RUNNING), None)
    assert known is not None
    assert (known.count, known.mean) == (2, 2.0)
    assert [*rollout.sums.values()] == pytest.approx([-1 / math.sqrt(2), 1 / math.sqrt(2)])
