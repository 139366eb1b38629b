"""What is told of answers that have no reward, those of groups that others replaced among them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from footplate_trainer.errors import TooManyUnrewarded
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.advantages import sums_of
from footplate_trainer.rollout.journal_records import CollectedRollout, RolloutState
from footplate_trainer.rollout.unrewarded import UnrewardedAnswers

WEIGHTS = {"right": 1.0, "tidy": 0.0}
Said = Mapping[tuple[int, int], Mapping[str, float | str]]


def raised(name: str, place: int, sibling: int) -> str:
    return f"reward {name}: {SampleKey(4, place, sibling)}: it raised KeyError: 'unit'"


def rollout(said: Said, asked: int = 3, weights: Mapping[str, float] = WEIGHTS) -> UnrewardedAnswers:
    """Of `asked` groups of two, 11 and 12 of them trained on; what is not `said` is a number."""
    rewards: dict[SampleKey, dict[str, float | str]] = {
        SampleKey(4, place, sibling): {**dict.fromkeys(weights, 1.0), **said.get((place, sibling), {})}
        for place in range(10, 10 + asked + 1)
        for sibling in (0, 1)
    }
    sums = sums_of(rewards, weights)
    gathered = CollectedRollout(4, 10, asked, [11, 12], 0, RolloutState(rewards=rewards), sums, weights)
    return UnrewardedAnswers.of(gathered, sums, 2)


@pytest.mark.parametrize(
    ("said", "share", "warning"),
    [
        pytest.param({}, 0.0, "", id="all-rewarded"),
        pytest.param(
            {(11, 1): {"right": raised("right", 11, 1)}},
            1 / 6,
            "1 of 6 answers do not count; no reward of right for 1, as reward right: answer 1 to prompt 11 "
            "at step 4: it raised KeyError: 'unit'",
            id="one",
        ),
        pytest.param(
            {(10, sibling): {"right": raised("right", 10, sibling)} for sibling in (0, 1)},
            2 / 6,
            "2 of 6 answers do not count; no reward of right for 2, as reward right: answer 0 to prompt 10 "
            "at step 4: it raised KeyError: 'unit'",
            id="of-a-group-that-another-replaced",
        ),
        pytest.param(
            {(12, 0): {"tidy": raised("tidy", 12, 0)}},
            0.0,
            "0 of 6 answers do not count; no reward of tidy for 1, as reward tidy: answer 0 to prompt 12 at "
            "step 4: it raised KeyError: 'unit'",
            id="one-without-weight",
        ),
        pytest.param(
            {(12, 0): {"right": 1e13, "tidy": "reward tidy: None"}},
            1 / 6,
            "1 of 6 answers do not count; no reward of tidy for 1, as reward tidy: None; their sum for 1, as "
            "answer 0 to prompt 12 at step 4: the weighted sum of its rewards is 1e+13, beyond ±1e+12",
            id="no-sum",
        ),
        pytest.param({(13, 0): {"right": "none"}}, 0.0, "", id="an-answer-that-was-not-asked"),
    ],
)
def test_all_that_were_asked_count_and_each_reward_says_why(said: Said, share: float, warning: str) -> None:
    found = rollout(said)
    assert found.values == {"answers/unrewarded": share}
    assert found.warning() == (f"rollout of step 4: {warning}" if warning else "")


def test_groups_that_others_replaced_count_for_the_share_that_ends_a_run() -> None:
    found = rollout({(10, sibling): {"right": raised("right", 10, sibling)} for sibling in (0, 1)})
    found.check(0.34)
    with pytest.raises(TooManyUnrewarded, match=r"2 of 6 samples .* answer 0 to prompt 10 at step 4"):
        found.check(0.1)


def test_a_warning_is_as_long_as_three_rewards() -> None:
    names = [f"r{number}" for number in range(9)]
    said = {(11, 0): {name: f"reward {name}: it slept" for name in names}, (11, 1): {"r8": "it slept"}}
    warning = rollout(said, weights=dict.fromkeys(names, 1.0)).warning()
    assert "r8 for 2, as reward r8: it slept; r0 for 1" in warning and warning.endswith("; and 6 more")
