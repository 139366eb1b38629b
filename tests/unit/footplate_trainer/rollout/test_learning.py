"""What is learnt of the answers of a rollout, as numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from footplate_contracts.v1alpha1.reinforcement import GroupAdvantage
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey, Unrewarded
from footplate_trainer.rollout.advantages import (
    compute_advantages,
    has_learning_signal,
    resumed_kl_coefficient,
    sums_of,
)
from footplate_trainer.rollout.groups import GroupPlan
from footplate_trainer.rollout.journal_records import SampleRecord
from footplate_trainer.rollout.settings import RolloutSettings

NONE = Unrewarded("reward right: answer 0 to prompt 1 at step 0: it slept")
SETTINGS = RolloutSettings(
    groups=GroupPlan(2),
    group=2,
    batch=2,
    epochs=3,
    max_tokens=16,
    seed=0,
    rule=SamplingRule(),
    advantage=GroupAdvantage.MEAN,
    overlong_tokens=None,
    max_missing_reward_ratio=0.5,
)


def sample(tokens: int, reason: EndReason = EndReason.END) -> SampleRecord:
    zeros = np.zeros(tokens, dtype=np.float32)
    return SampleRecord(SampleKey(0, 0, 0), zeros.astype(np.int32), zeros, zeros, reason)


def found(sums: list[list[Outcome]], lengths: list[list[int]], settings: RolloutSettings = SETTINGS):
    drawn = [[sample(n, EndReason.LENGTH if n == 16 else EndReason.END) for n in group] for group in lengths]
    return compute_advantages(
        settings, drawn, sums, [{"right": told} for group in sums for told in group], asked=3
    )


def test_a_row_says_what_the_rollout_was_like() -> None:
    values = found([[1.0, 0.0], [1.0, 1.0]], [[2, 4], [16, 2]]).values
    assert values == {
        "reward/sum": 0.75,
        "reward/deviation": 0.5,
        "rewards/right": 0.75,
        "answers/tokens": 6.0,
        "answers/truncated": 0.25,
        "groups/degenerate": 0.5,
        "groups/asked": 1.5,
    }


def test_an_answer_without_reward_counts_nowhere() -> None:
    learning = found([[1.0, NONE], [0.0, 1.0]], [[2, 4], [3, 3]])
    assert learning.counted.tolist() == [[True, False], [True, True]]
    assert learning.advantages.tolist() == [[0.0, 0.0], [-0.5, 0.5]]
    assert learning.values["reward/sum"] == pytest.approx(2 / 3)
    assert learning.values["groups/degenerate"] == 0.5


def test_overlong_answers_lose_and_groups_are_not_judged_by_that() -> None:
    settings = replace(SETTINGS, overlong_tokens=4)
    learning = found([[1.0, 1.0], [0.0, 1.0]], [[14, 2], [3, 3]], settings)
    assert learning.scores.tolist() == [[0.5, 1.0], [0.0, 1.0]]
    assert learning.advantages.tolist() == [[-0.25, 0.25], [-0.5, 0.5]]
    assert (
        not has_learning_signal([1.0, 1.0])
        and not has_learning_signal([NONE, 1.0])
        and has_learning_signal([0.0, 1.0])
    )


def test_a_rollout_without_any_reward_has_no_numbers_of_it() -> None:
    values = found([[NONE, NONE], [NONE, NONE]], [[2, 4], [3, 3]]).values
    assert "reward/sum" not in values and "rewards/right" not in values
    assert not any(math.isnan(value) for value in values.values())


def test_a_sum_is_there_once_all_rewards_have_spoken() -> None:
    first, second = SampleKey(0, 1, 0), SampleKey(0, 1, 1)
    told = {first: {"right": 1.0}, second: {"right": 1.0, "short": 0.5}}
    assert sums_of(told, {"right": 2.0, "short": 1.0}) == {second: 2.5}


@pytest.mark.parametrize(
    ("step", "begun"), [pytest.param(1, 0), pytest.param(6, 0), pytest.param(7, 6), pytest.param(13, 12)]
)
def test_which_rollout_a_step_is_of(step: int, begun: int) -> None:
    assert SETTINGS.updates == 6 and SETTINGS.rollout_start_step(step) == begun


@pytest.mark.parametrize(
    ("stated", "target", "known", "now"),
    [
        pytest.param(0.1, None, 0.02, 0.1, id="another-is-stated"),
        pytest.param(0.1, None, 0.0, 0.1, id="one-is-stated-where-none-was"),
        pytest.param(0.0, None, 0.02, 0.0, id="none-any-more"),
        pytest.param(0.1, 6.0, 0.02, 0.02, id="what-a-target-made-of-it"),
        pytest.param(0.1, 6.0, 0.0, 0.1, id="a-target-where-none-was"),
    ],
)
def test_a_run_that_goes_on_has_the_coefficient_of_its_settings(
    stated: float, target: float | None, known: float, now: float
) -> None:
    assert resumed_kl_coefficient(replace(SETTINGS, coefficient=stated, target=target), known) == now
