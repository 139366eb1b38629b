"""Advantages of tokens and answers: fp64, without gradient, computed once per rollout.

All inputs are gathered from all ranks in the order of samples, so the results do not depend on the layout. A
reward counts where it is a number of at most `REWARD_LIMIT`. Any other, NaN and ±10^308 among them, is in no
mean and no deviation, and the advantage of its answer is 0; the caller reports the sample.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

REWARD_LIMIT: Final = 1e12
"""Beyond this a reward is a fault: its square, as a value model's loss, and its gradient's fit fp32."""
DEVIATION_EPSILON: Final = 1e-4
"""What is added to a deviation of rewards, as in TRL; verl adds 1e-6, OpenRLHF 1e-9."""
VARIANCE_EPSILON: Final = 1e-8
"""What is added to the variance of advantages, as in TRL and verl."""


def countable_mask(rewards: Tensor) -> Tensor:
    """Return which rewards count: bool, as `rewards`."""
    return rewards.abs() <= REWARD_LIMIT  # false for NaN


# -- of tokens, with a value model ----------------------------------------------------------


def position_count_at_end(tokens: Tensor) -> Tensor:
    """Return the positions with a reward and a value, for `scorePosition: lastToken`: int64 [sequences].

    As many as the answer has tokens; the score is at the last of them, which ends it. So in verl and
    OpenRLHF.
    """
    return tokens


def position_count_after_end(tokens: Tensor, longest: int) -> Tensor:
    """Return the positions for `scorePosition: afterLastToken`: one more, unless that exceeds `longest`.

    The additional position has the score. So in TRL up to 1.10.0: the value there is the one after the
    answer's last token. It belongs to the value's loss and to no token, so not to the policy's.
    """
    return (tokens + 1).clamp(max=longest)


def token_rewards(scores: Tensor, divergence: Tensor, coefficient: float, places: Tensor) -> Tensor:
    """Return -coefficient * KL at each position, plus the score at the last one: fp64 [sequences, width].

    `divergence` [sequences, width] is 0 where there is no token; `scores` and `places` are [sequences]. An
    answer without positions, or whose score does not count, has no score.
    """
    rewards = -coefficient * divergence.double()
    known = countable_mask(scores) & (places > 0)
    last = (places - 1).clamp(min=0)[:, None]
    return rewards.scatter_add(1, last, torch.where(known, scores.double(), 0.0)[:, None])


def gae(rewards: Tensor, values: Tensor, places: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Compute generalised advantages (Schulman et al. 2016) and returns: fp64 [sequences, width] each.

    A_t = sum over k of (gamma lam)^k (r_{t+k} + gamma V_{t+k+1} - V_{t+k}), V being 0 after an answer's last
    position; returns are A + V. Values after the last position are ignored, and both results are 0 there.
    verl's lambda is 1 by default, TRL's .95.
    """
    inside = torch.arange(rewards.shape[1], device=rewards.device) < places[:, None]
    rewards, values = (torch.where(inside, given.double(), 0.0) for given in (rewards, values))
    advantages = torch.zeros_like(values)
    following = values.new_zeros(values.shape[0])  # V, and then A, of the next place
    carried = following
    for place in reversed(range(values.shape[1])):
        surprise = rewards[:, place] + gamma * following - values[:, place]
        carried = surprise + gamma * lam * carried
        advantages[:, place], following = carried, values[:, place]
    return advantages, advantages + values


def whiten(advantages: Tensor, counted: Tensor) -> Tensor:
    """Return (A - mean) / sqrt(variance + 1e-8) over all that counts (bool), unbiased; 0 elsewhere: fp64.

    Over the whole rollout, once. verl does the same over its batch; TRL up to 1.10.0 over each device's part
    of it. 0 where fewer than two count or all are equal.
    """
    given = advantages.double()[counted]
    result = torch.zeros_like(advantages, dtype=torch.float64)
    if given.numel() > 1 and given.min() < given.max():
        result[counted] = (given - given.mean()) * torch.rsqrt(given.var() + VARIANCE_EPSILON)
    return result


# -- of answers, with their siblings ----------------------------------------------------------
#
# Rewards are [prompts, siblings], all answers of one prompt in a row, 1 or more; `counted` is bool alike.


def degenerate_groups(rewards: Tensor, counted: Tensor) -> Tensor:
    """Return which groups have no learning signal: bool [prompts].

    Fewer than two of their rewards count, or all that count are equal. Their advantages are 0, exactly.
    """
    counted = counted & countable_mask(rewards)
    highest = rewards.where(counted, -torch.inf).amax(1)
    lowest = rewards.where(counted, torch.inf).amin(1)
    return highest <= lowest


def group_mean(rewards: Tensor, counted: Tensor) -> Tensor:
    """Compute `groupMean` (Dr. GRPO): r - the group's mean: fp64 [prompts, siblings].

    TRL's `scale_rewards: none`.
    """
    counted = counted & countable_mask(rewards)
    given = rewards.double().where(counted, 0.0)
    means = given.sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp(min=1)
    teaching = counted & ~degenerate_groups(rewards, counted)[:, None]
    return (given - means).where(teaching, 0.0)


def group_deviation(rewards: Tensor, counted: Tensor, epsilon: float = DEVIATION_EPSILON) -> Tensor:
    """Compute `groupDeviation` (GRPO): `group_mean` divided by the group's unbiased deviation + epsilon.

    fp64 [prompts, siblings]; TRL's `scale_rewards: group`. verl has an epsilon of 1e-6, OpenRLHF of 1e-9,
    torchtitan divides by the population's deviation + 1e-6.
    """
    centred = group_mean(rewards, counted)
    others = ((counted & countable_mask(rewards)).sum(1, keepdim=True) - 1).clamp(min=1)
    return centred / ((centred.square().sum(1, keepdim=True) / others).sqrt() + epsilon)


def batch_deviation(rewards: Tensor, counted: Tensor, epsilon: float = DEVIATION_EPSILON) -> Tensor:
    """Compute `batchDeviation`: `group_mean` divided by the rollout's unbiased deviation + epsilon: fp64.

    The deviation of all rewards from their common mean; TRL's `scale_rewards: batch`.
    """
    given = rewards.double()[counted & countable_mask(rewards)]
    deviation = given.std() if given.numel() > 1 else given.new_zeros(())
    return group_mean(rewards, counted) / (deviation + epsilon)


def leave_one_out(rewards: Tensor, counted: Tensor) -> Tensor:
    """Compute `leaveOneOut` (RLOO, Ahmadian et al. 2024): r - its siblings' mean.

    fp64 [prompts, siblings].
    """
    number = (counted & countable_mask(rewards)).sum(1, keepdim=True)
    return group_mean(rewards, counted) * number / (number - 1).clamp(min=1)


def soft_penalty(lengths: Tensor, longest: int, cache: int) -> Tensor:
    """Compute `overlong` (Yu et al. 2025, DAPO, eq. 13), a term of the score: fp64, as `lengths`, -1 to 0.

    0 up to `longest - cache` tokens, from there on (longest - cache - length) / cache, and -1 beyond
    `longest`.

    Raises:
        ValueError: `cache` is not within 1 and `longest`.
    """
    if not 1 <= cache <= longest:
        raise ValueError(f"cache is {cache}; for answers of up to {longest} tokens use 1 to {longest}")
    return ((longest - cache - lengths.double()) / cache).clamp(-1, 0)
