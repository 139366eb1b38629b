"""Advantages of an answer's tokens from a value model, and the value model's targets. Pure.

Answers are gathered from all ranks in one order, so the result does not depend on the layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from footplate_trainer.model.objectives.advantages import (
    gae,
    position_count_after_end,
    position_count_at_end,
    token_rewards,
    whiten,
)
from footplate_trainer.model.objectives.value import explained_variance
from footplate_trainer.model.policy_loss import ESTIMATORS, OLD, REFERENCE
from footplate_trainer.parallel.value_objective import OLD_VALUE, RETURN
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.advantages import Advantages
from footplate_trainer.rollout.journal_records import CollectedRollout, Float32s
from footplate_trainer.rollout.settings import RolloutSettings


@dataclass(frozen=True)
class ValueTargets:
    """Advantages and value targets of each answer."""

    advantages: Mapping[SampleKey, Float32s]  # [n], of tokens
    places: Mapping[SampleKey, Mapping[str, Float32s]]  # [n or n + 1] each: what the value model learns


def value_position_count(settings: RolloutSettings, tokens: int) -> int:
    """Return how many positions of an answer of `tokens` tokens have a value."""
    assert settings.values is not None
    length = torch.tensor([tokens])
    if settings.values.after_end:
        return int(position_count_after_end(length, settings.max_tokens))
    return int(position_count_at_end(length))


def with_value_advantages(
    settings: RolloutSettings, gathered: CollectedRollout, found: Advantages, coefficient: float
) -> tuple[Advantages, ValueTargets]:
    """Return `found` with advantages from values, and the advantages and value targets by answer.

    `gathered` has the values, and log-probabilities before the first update; `coefficient` is that of KL.
    """
    chosen, kept = settings.values, gathered.kept
    assert chosen is not None
    keys = [key for group in gathered.keys(settings.group) for key in group]
    tokens = torch.tensor([len(kept.samples[key].tokens) for key in keys])
    counts = torch.tensor([value_position_count(settings, int(length)) for length in tokens])
    width = int(counts.max())
    values = _padded([kept.scores[OLD_VALUE, key] for key in keys], width)
    penalty = (
        _divergence(settings, gathered, keys, width) if chosen.kl_in_reward else torch.zeros_like(values)
    )
    rewards = token_rewards(found.scores.flatten(), penalty, coefficient, counts)
    advantages, returns = gae(rewards, values, counts, chosen.gamma, chosen.lam)
    counted = found.counted.flatten()[:, None]
    of_tokens, of_places = (counted & (torch.arange(width) < ends[:, None]) for ends in (tokens, counts))
    explained = explained_variance(values, returns, of_places)
    if chosen.whitening:
        advantages = whiten(advantages, of_tokens)
    advantages = torch.where(of_tokens, advantages, 0.0)
    told = {
        "value/mean": float(values[of_places].mean()),
        "value/returns": float(returns[of_places].mean()),
        "value/explained_variance": explained,
    }
    shown = advantages.sum(1) / tokens.clamp(min=1)
    learnt = replace(
        found,
        advantages=shown.view_as(found.advantages),
        values={**found.values, **{name: number for name, number in told.items() if not math.isnan(number)}},
    )
    return learnt, ValueTargets(
        dict(zip(keys, _cut(advantages, tokens), strict=True)),
        {
            key: {OLD_VALUE: kept.scores[OLD_VALUE, key], RETURN: gained}
            for key, gained in zip(keys, _cut(returns, counts), strict=True)
        },
    )


def _divergence(
    settings: RolloutSettings, gathered: CollectedRollout, keys: list[SampleKey], width: int
) -> Tensor:
    """Return the KL from the reference at each token, 0 after the last: fp64 [answers, width]."""
    estimate, scores = ESTIMATORS[settings.estimator], gathered.kept.scores
    if any((REFERENCE, key) not in scores for key in keys):
        return torch.zeros(len(keys), width, dtype=torch.float64)
    now, then = (_padded([scores[name, key] for key in keys], width) for name in (OLD, REFERENCE))
    return estimate(now, then)


def _padded(rows: list[Float32s], width: int) -> Tensor:
    """Stack rows as fp64 [rows, width], padded with 0."""
    return torch.from_numpy(np.stack([np.pad(row.astype(np.float64), (0, width - len(row))) for row in rows]))


def _cut(rows: Tensor, ends: Tensor) -> list[Float32s]:
    return [row[:end].float().numpy() for row, end in zip(rows, ends.tolist(), strict=True)]
