"""Scores of a reward model, by a mean and a deviation."""

from __future__ import annotations

import math
import statistics

import pytest

from footplate_contracts.v1alpha1.reward import RewardNormalization
from footplate_trainer.checkpoint.training_state import HeldOutScores, RunningScores
from footplate_trainer.rollout.reward_normalization import RewardNormalizer, update_running_scores

FIRST, SECOND = [3.0, -1.0, 4.5], [1e6, 1e6 + 1, 1e6 - 3, 0.25]


def test_scores_of_rollouts_add_up_to_those_of_all() -> None:
    known = update_running_scores(update_running_scores(RunningScores(), FIRST), SECOND)
    every = [*FIRST, *SECOND]
    assert (known.count, known.mean) == (7, pytest.approx(statistics.fmean(every)))
    assert known.squares / 6 == pytest.approx(statistics.variance(every))


def test_what_is_no_number_counts_nowhere() -> None:
    assert update_running_scores(RunningScores(), [math.nan, *FIRST, math.inf]) == update_running_scores(
        RunningScores(), FIRST
    )
    assert update_running_scores(RunningScores(), [math.nan]) == RunningScores()


def test_running_scores_of_a_rollout_are_normalised_by_those_up_to_it() -> None:
    running = RewardNormalizer(RewardNormalization.RUNNING)
    known = running.update(None, FIRST)
    told = [running.normalised(score, known) for score in FIRST]
    assert statistics.fmean(told) == pytest.approx(0, abs=1e-12)
    assert statistics.stdev(told) == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize(
    ("how", "expected"), [(RewardNormalization.NONE, 2.0), (RewardNormalization.HELD_OUT, 3.0)]
)
def test_others_keep_nothing_of_a_rollout(how: RewardNormalization, expected: float) -> None:
    normaliser = RewardNormalizer(how, HeldOutScores(mean=0.5, deviation=0.5))
    assert normaliser.update(None, FIRST) is None
    assert normaliser.normalised(2.0, None) == expected
