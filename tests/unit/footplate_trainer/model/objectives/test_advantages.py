"""Advantages of tokens and of answers: known answers, what counts nowhere, degenerate groups."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from footplate_trainer.model.objectives.advantages import (
    REWARD_LIMIT,
    batch_deviation,
    countable_mask,
    degenerate_groups,
    gae,
    group_deviation,
    group_mean,
    leave_one_out,
    position_count_after_end,
    position_count_at_end,
    token_rewards,
    whiten,
)
from footplate_trainer.rewards.reward_values import LARGEST
from tests.support.formulas import agrees, exact

# -- of tokens --------------------------------------------------------------------------------

NO_KL = [0.0, 0.0, 0.0, 0.0]
K1 = [0.1, -0.05, 0.2, 0.0]


@pytest.mark.parametrize(
    ("divergence", "values", "places", "known"),
    [
        pytest.param(
            NO_KL,
            [0.5, 0.4, 0.3, 9.0],
            position_count_at_end(torch.tensor([3])),
            [0.43675, 0.565, 0.7, 0],
            id="end",
        ),
        pytest.param(
            NO_KL,
            [0.5, 0.4, 0.3, 0.2],
            position_count_after_end(torch.tensor([3]), 4),
            [0.40065, 0.527, 0.66, 0.8],
            id="after-end",
        ),
        pytest.param(
            NO_KL,
            [0.5, 0.4, 0.3, 9.0],
            position_count_after_end(torch.tensor([3]), 3),
            [0.43675, 0.565, 0.7, 0],
            id="no-room-after-end",
        ),
        pytest.param(
            K1,
            [0.5, 0.4, 0.3, 9.0],
            position_count_at_end(torch.tensor([3])),
            [0.4251, 0.558, 0.69, 0],
            id="with-k1",
        ),
    ],
)
def test_known_advantages(
    divergence: list[float], values: list[float], places: Tensor, known: list[float]
) -> None:
    rewards = token_rewards(exact(1.0), exact(divergence), 0.05, places)
    advantages, returns = gae(rewards, exact(values), places, gamma=1.0, lam=0.95)
    agrees(advantages, [known])
    there = torch.arange(4) < places
    agrees(returns, torch.where(there, advantages + exact(values), 0.0).tolist())


def test_advantages_are_the_discounted_sum_of_what_surprises() -> None:
    generator = torch.Generator().manual_seed(3)
    rewards, values = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    places, gamma, lam = torch.tensor([6, 1, 0, 4]), 0.9, 0.8
    expected = torch.zeros(4, 6, dtype=torch.float64)
    for row, end in enumerate(places.tolist()):
        following = [*values[row, 1:end].tolist(), 0.0]
        surprise = [rewards[row, t] + gamma * following[t] - values[row, t] for t in range(end)]
        for t in range(end):
            expected[row, t] = sum((gamma * lam) ** (k - t) * surprise[k] for k in range(t, end))
    agrees(gae(rewards, values, places, gamma, lam)[0], expected.tolist(), 1e-12)


def test_what_stands_behind_an_answer_is_not_looked_at() -> None:
    behind = [math.nan, math.inf, -1e308]
    advantages, returns = gae(exact([1.0, *behind]), exact([0.25, *behind]), torch.tensor([1]), 1.0, 0.95)
    agrees(advantages, [[0.75, 0, 0, 0]])
    agrees(returns, [[1.0, 0, 0, 0]])


@pytest.mark.parametrize("score", [math.nan, math.inf, 1e308, -1e308])
def test_a_score_that_does_not_count_is_no_reward(score: float) -> None:
    agrees(token_rewards(exact(score), exact([0.1, 0.2]), 0.5, torch.tensor([2])), [[-0.05, -0.1]])


def test_an_answer_of_no_place_has_no_reward() -> None:
    agrees(token_rewards(exact(1.0), exact([0.0, 0.0]), 0.5, torch.tensor([0])), [[0.0, 0.0]])
    advantages, _ = gae(exact([1.0, 1.0]), exact([1.0, 1.0]), torch.tensor([0]), 1.0, 0.95)
    agrees(advantages, [[0.0, 0.0]])


def test_whitened_advantages_have_mean_0_and_unbiased_variance_1() -> None:
    generator = torch.Generator().manual_seed(4)
    given = 5 + 3 * torch.randn(7, 9, generator=generator, dtype=torch.float64)
    counted = torch.rand(7, 9, generator=generator) < 0.7
    found = whiten(given, counted)
    agrees(found[counted].mean(), 0.0, 1e-12)
    agrees(found[counted].var(), 1.0, 1e-8)
    assert not found[~counted].any()


def test_1e8_is_added_to_the_variance_and_not_to_the_deviation() -> None:
    given = exact(1e-4, 4e-4, 2e-4, 8e-4)  # mean 3.75e-4, sum of squares from there 28.75e-8
    expected = (given - 3.75e-4) / math.sqrt(28.75e-8 / 3 + 1e-8)
    agrees(whiten(given, everything(given)), expected.tolist(), 1e-12)


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        pytest.param([3.0], [True], id="one"),
        pytest.param([0.1, 0.1, 0.1], [True] * 3, id="equal"),
        pytest.param([], [], id="none"),
        pytest.param([1.0, math.nan], [True, False], id="one-counts"),
    ],
)
def test_what_cannot_be_whitened_is_0(given: list[float], counted: list[bool]) -> None:
    agrees(whiten(exact(*given), torch.tensor(counted, dtype=torch.bool)), [0.0] * len(given), 0)


# -- of answers -------------------------------------------------------------------------------

Advantage = Callable[[Tensor, Tensor], Tensor]
ALL = [group_mean, group_deviation, batch_deviation, leave_one_out]
REWARDS = exact([1.0, 0.0, 0.0, 1.0])


def everything(rewards: Tensor) -> Tensor:
    return torch.ones_like(rewards, dtype=torch.bool)


@pytest.mark.parametrize(
    ("advantage", "known"),
    [
        pytest.param(group_mean, 0.5, id="group-mean"),
        pytest.param(group_deviation, 0.865875, id="group-deviation"),
        pytest.param(leave_one_out, 0.666667, id="leave-one-out"),
        pytest.param(batch_deviation, 0.865875, id="batch-deviation-of-one-group"),
        pytest.param(lambda r, c: group_deviation(r, c, 1e-6), 0.866024, id="with-verls-epsilon"),
    ],
)
def test_known_advantages_of_a_group(advantage: Advantage, known: float) -> None:
    agrees(advantage(REWARDS, everything(REWARDS)), [[known, -known, -known, known]])


def test_none_of_them_is_that_of_the_populations_deviation() -> None:
    population = 0.5 / (REWARDS.std(correction=0).item() + 1e-6)
    agrees(population, 0.999998)
    for advantage in ALL:
        assert abs(advantage(REWARDS, everything(REWARDS))[0, 0] - population) > 0.1


def test_the_batchs_deviation_is_of_all_rewards() -> None:
    rewards = exact([1.0, 0.0], [5.0, 3.0])
    deviation = rewards.flatten().std() + 1e-4
    agrees(
        batch_deviation(rewards, everything(rewards)),
        (exact([0.5, -0.5], [1, -1]) / deviation).tolist(),
        1e-12,
    )


@pytest.mark.parametrize("advantage", ALL)
@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf, 1e308, -1e308, 1.1e12])
def test_a_reward_that_does_not_count_is_as_if_it_were_not_there(
    advantage: Advantage, missing: float
) -> None:
    rewards = exact([1.0, missing, 0.0, 3.0], [0.0, 2.0, 2.0, missing])
    fewer = [exact([1.0, 0.0, 3.0]), exact([0.0, 2.0, 2.0])]
    found = advantage(rewards, everything(rewards))
    assert found[0, 1] == found[1, 3] == 0
    expected = advantage(torch.cat(fewer), everything(torch.cat(fewer)))
    agrees(found[0, [0, 2, 3]], expected[0].tolist(), 1e-12)
    agrees(found[1, :3], expected[1].tolist(), 1e-12)


@pytest.mark.parametrize("advantage", ALL)
def test_what_the_caller_does_not_count_is_not_looked_at(advantage: Advantage) -> None:
    rewards, counted = exact([1.0, 9.0, 0.0]), torch.tensor([[True, False, True]])
    agrees(
        advantage(rewards, counted)[:, [0, 2]], advantage(exact([1.0, 0.0]), counted[:, [0, 2]]).tolist(), 0
    )


@pytest.mark.parametrize("advantage", ALL)
@pytest.mark.parametrize(
    "rewards",
    [
        pytest.param([0.1, 0.1, 0.1], id="all-equal"),
        pytest.param([1.0, math.nan, math.nan], id="one-counts"),
        pytest.param([math.nan, 1e308, -1e308], id="none-counts"),
        pytest.param([0.7], id="a-group-of-one"),
    ],
)
def test_a_degenerate_group_has_advantage_0_exactly(advantage: Advantage, rewards: list[float]) -> None:
    group = torch.tensor([rewards], dtype=torch.float64)
    assert degenerate_groups(group, everything(group)).tolist() == [True]
    agrees(advantage(group, everything(group)), [[0.0] * len(rewards)], 0)


def test_degenerate_groups_are_told_from_others() -> None:
    rewards = exact([1.0, 1.0, math.nan], [1.0, 1.0, 1.0 + 2**-52], [0.0, 1.0, 0.0])
    assert degenerate_groups(rewards, everything(rewards)).tolist() == [True, False, False]
    counted = torch.tensor([[True] * 3, [True, True, False], [True] * 3])
    assert degenerate_groups(rewards, counted).tolist() == [True, True, False]


@pytest.mark.parametrize("advantage", ALL)
def test_no_prompts_have_no_advantages(advantage: Advantage) -> None:
    none = torch.empty(0, 4, dtype=torch.float64)
    assert advantage(none, everything(none)).shape == (0, 4)
    assert degenerate_groups(none, everything(none)).shape == (0,)


@pytest.mark.parametrize("advantage", ALL)
def test_the_largest_rewards_that_count_overflow_nowhere(advantage: Advantage) -> None:
    rewards = exact([REWARD_LIMIT, -REWARD_LIMIT] * 2)
    found = advantage(rewards, everything(rewards))
    assert found.float().isfinite().all() and (found[0, 0] > 0)


def test_which_rewards_count() -> None:
    rewards = exact(0.0, -3.5, 1e12, -1e12, 1.001e12, 1e308, math.inf, -math.inf, math.nan)
    assert countable_mask(rewards).tolist() == [True] * 4 + [False] * 5


def test_what_counts_is_what_a_reward_function_may_answer() -> None:
    assert REWARD_LIMIT == LARGEST
