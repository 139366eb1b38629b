"""Weighted sums of rewards, and the share of samples without one."""

from __future__ import annotations

import math
import random

import pytest

from footplate_trainer.errors import TooManyUnrewarded
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey, Unrewarded
from footplate_trainer.rewards.reward_values import LARGEST
from footplate_trainer.rewards.sums import (
    UnrewardedShare,
    describe_largest,
    reasons,
    sums_and_counts,
    weighted_sum,
)

MISSING = Unrewarded("reward style: answer 0 to prompt 1 at step 2: it returned NaN")


@pytest.mark.parametrize(
    ("outcomes", "weights", "total"),
    [
        pytest.param({"a": 1.0, "b": 0.5}, {"a": 1.0, "b": -2.0}, 0.0, id="weighted"),
        pytest.param({"a": 1.0, "b": MISSING}, {"a": 1.0, "b": 1.0}, MISSING, id="one-missing"),
        pytest.param({"a": 1.0, "b": MISSING}, {"a": 1.0, "b": 0.0}, 1.0, id="only-reported-and-missing"),
        pytest.param({"a": 3.0}, {"a": 0.0}, 0.0, id="only-reported"),
        pytest.param({"a": LARGEST, "b": -LARGEST}, {"a": 1e6, "b": 1e6}, 0.0, id="largest-cancel"),
        pytest.param({"a": 1e16, "b": 1.0, "c": -1e16}, {"a": 1.0, "b": 1.0, "c": 1.0}, 1.0, id="exact"),
    ],
)
def test_the_weighted_sum(outcomes: dict[str, Outcome], weights: dict[str, float], total: Outcome) -> None:
    assert weighted_sum(outcomes, weights) == total


def test_a_sum_beyond_what_can_be_reckoned_with_is_none() -> None:
    names = [str(number) for number in range(17)]
    total = weighted_sum(dict.fromkeys(names, LARGEST), dict.fromkeys(names, 1e6))
    assert total == Unrewarded("the weighted sum of its rewards is 1.7e+19, beyond ±1e+12")


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_models_score_that_is_no_number_rewards_nothing(score: float) -> None:
    total = weighted_sum({"model": score, "short": 1.0}, {"model": 0.5, "short": 1.0})
    assert isinstance(total, Unrewarded) and f"is {score:g}" in total.reason


def test_the_sum_does_not_depend_on_the_order_of_names() -> None:
    names = [str(number) for number in range(12)]
    chance = random.Random(1)
    outcomes: dict[str, Outcome] = {name: chance.uniform(-1e9, 1e-9) for name in names}
    sums = {weighted_sum(outcomes, dict.fromkeys(order, 0.1)) for order in (names, names[::-1])}
    assert len(sums) == 1


@pytest.mark.parametrize(
    ("share", "most", "ends"),
    [
        pytest.param(UnrewardedShare(10, 1), 0.1, False, id="just-allowed"),
        pytest.param(UnrewardedShare(10, 2), 0.1, True, id="above"),
        pytest.param(UnrewardedShare(10, 0), 0.0, False, id="none-allowed-and-none-there"),
        pytest.param(UnrewardedShare(10, 1), 0.0, True, id="none-allowed"),
        pytest.param(UnrewardedShare(4, 4), 1.0, False, id="all-allowed"),
        pytest.param(UnrewardedShare(0, 0), 0.0, False, id="no-samples"),
        pytest.param(UnrewardedShare(100, 29), 0.29, False, id="a-share-no-float-is"),
    ],
)
def test_when_a_share_ends_the_run(share: UnrewardedShare, most: float, ends: bool) -> None:
    if not ends:
        share.check(most, [])
        return
    with pytest.raises(TooManyUnrewarded, match="maxMissingRewardRatio"):
        share.check(most, ["why"])


def test_the_error_says_why_of_some() -> None:
    with pytest.raises(TooManyUnrewarded) as raised:
        UnrewardedShare(8, 5).check(0.25, ["one", "two", "one", "three", "four"])
    assert str(raised.value) == (
        "5 of 8 samples of the rollout have no reward, and reward.maxMissingRewardRatio 0.25 allows 2: "
        "one; two; three; and 1 more"
    )


def test_the_largest_reward_is_named_by_its_size_and_its_answer() -> None:
    rewards: dict[SampleKey, dict[str, float | str]] = {
        SampleKey(4, 7, 0): {"short": 2.0, "model": math.nan},
        SampleKey(4, 7, 1): {"short": -3e11, "model": "it slept"},
        SampleKey(4, 7, 2): {"short": 1.0, "model": math.inf},
    }
    told = "in the rollout of step 4 is -3e+11, of short for answer 1 to prompt 7"
    assert describe_largest(rewards, {"short": 1.0, "model": 1.0}) == f"the largest weighted reward {told}"
    assert describe_largest({SampleKey(4, 7, 0): {"short": "it slept"}}, {"short": 1.0}) == ""


def test_the_largest_is_the_one_that_weighs_most() -> None:
    rewards: dict[SampleKey, dict[str, float | str]] = {
        SampleKey(4, 7, 0): {"right": 1.0, "chars": 5321.0, "tiny": 1e9}
    }
    told = describe_largest(rewards, {"right": -2.0, "chars": 0.0, "tiny": 1e-9})
    assert told.endswith(" is -2, of right for answer 0 to prompt 7")
    assert describe_largest(rewards, {"chars": 0.0}) == ""


def test_means_leave_out_who_has_none() -> None:
    found: list[dict[str, Outcome]] = [{"a": 1.0, "b": MISSING}, {"a": 3.0, "b": 5.0}]
    assert sums_and_counts(found, ["a", "b"]) == {"a": (4.0, 2), "b": (5.0, 1)}


def test_reasons_name_samples_in_their_order() -> None:
    named = "reward style: answer 0 to prompt 2 at step 1: it returned NaN"
    sums: dict[SampleKey, Outcome] = {
        SampleKey(1, 2, 0): Unrewarded(named),
        SampleKey(1, 1, 1): 0.5,
        SampleKey(1, 0, 3): Unrewarded("the sum is too large"),
    }
    assert reasons(sums) == ["answer 3 to prompt 0 at step 1: the sum is too large", named]
