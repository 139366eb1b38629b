"""Scores, advantages and metrics from the answers of a rollout. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from footplate_contracts.v1alpha1.reinforcement import GroupAdvantage
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.model.objectives.advantages import (
    batch_deviation,
    countable_mask,
    degenerate_groups,
    group_deviation,
    group_mean,
    leave_one_out,
    soft_penalty,
)
from footplate_trainer.model.objectives.kl_estimators import adaptive_coefficient
from footplate_trainer.model.policy_loss import ESTIMATORS, OLD, REFERENCE
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey, Unrewarded
from footplate_trainer.rewards.sums import sums_and_counts, weighted_sum
from footplate_trainer.rollout.journal_records import CollectedRollout, RolloutState, SampleRecord
from footplate_trainer.rollout.settings import RolloutSettings

ADVANTAGES: Final[Mapping[GroupAdvantage, Callable[[Tensor, Tensor], Tensor]]] = {
    GroupAdvantage.MEAN: group_mean,
    GroupAdvantage.GROUP_DEVIATION: group_deviation,
    GroupAdvantage.BATCH_DEVIATION: batch_deviation,
    GroupAdvantage.LEAVE_ONE_OUT: leave_one_out,
}


def parse_outcomes(values: Mapping[str, float | str]) -> dict[str, Outcome]:
    """Convert an answer's journal values into reward outcomes."""
    return {name: Unrewarded(told) if isinstance(told, str) else told for name, told in values.items()}


def sums_of(
    rewards: Mapping[SampleKey, Mapping[str, float | str]], weights: Mapping[str, float]
) -> dict[SampleKey, Outcome]:
    """Return the weighted sum of each sample that has all rewards."""
    return {
        key: weighted_sum(parse_outcomes(values), weights)
        for key, values in rewards.items()
        if values.keys() >= weights.keys()
    }


def complete_reward_sums(kept: RolloutState, weights: Mapping[str, float]) -> dict[SampleKey, Outcome]:
    """Return sums of the answers that have all rewards; 0 for each answer if there are no rewards at all."""
    return sums_of(kept.rewards if weights else {key: {} for key in kept.samples}, weights)


def has_learning_signal(sums: Sequence[Outcome]) -> bool:
    """Return whether a group's rewards differ, before length penalties, which say nothing of a prompt."""
    return not bool(degenerate_groups(*_rows([sums]))[0])


@dataclass(frozen=True)
class Advantages:
    """Scores and advantages of the groups to train on, in order; siblings form a row."""

    scores: Tensor  # fp64 [prompts, siblings]: rewards, and what is added to them; NaN where there is none
    counted: Tensor  # bool alike: what counts anywhere
    advantages: Tensor  # fp64 alike
    values: Mapping[str, float]  # for a row


def compute_advantages(
    settings: RolloutSettings,
    samples: Sequence[Sequence[SampleRecord]],
    sums: Sequence[Sequence[Outcome]],
    outcomes: Sequence[Mapping[str, Outcome]],
    asked: int,
) -> Advantages:
    """Compute advantages of `samples`, groups of siblings, from their sums.

    `outcomes` are rewards of each answer; `asked` groups were sampled in all.
    """
    scores, counted = _rows(sums)
    lengths = torch.tensor([[len(sample.tokens) for sample in group] for group in samples])
    if settings.overlong_tokens is not None:
        scores = scores + soft_penalty(lengths, settings.max_tokens, settings.overlong_tokens)
    truncated = [[sample.reason is EndReason.LENGTH for sample in group] for group in samples]
    if settings.values is not None:
        scores = scores - settings.values.missing_eos_penalty * torch.tensor(truncated)
    of_groups = ADVANTAGES[settings.advantage] if settings.advantage is not None else _none_yet
    advantages = of_groups(scores, counted)
    told = scores[counted]
    values = {
        "reward/sum": _mean(told),
        "reward/deviation": float(told.std()) if told.numel() > 1 else math.nan,
        **{
            f"rewards/{name}": total / count
            for name, (total, count) in sums_and_counts(outcomes, _names(outcomes)).items()
            if count
        },
        "answers/tokens": _mean(lengths.double()),
        "answers/truncated": _mean(torch.tensor(truncated).double()),
    }
    if settings.advantage is not None:
        values["groups/degenerate"] = _mean(degenerate_groups(scores, counted).double())
        values["groups/asked"] = asked / settings.groups.prompts
    return Advantages(
        scores, counted, advantages, {name: v for name, v in values.items() if not math.isnan(v)}
    )


def _none_yet(scores: Tensor, counted: Tensor) -> Tensor:
    """Return zeros: with a value model, advantages follow from values, which are not known yet."""
    return torch.zeros_like(scores)


def reference_kl(settings: RolloutSettings, gathered: CollectedRollout, found: Advantages) -> float | None:
    """Return the KL from the reference before any update: the mean over counted answers of token sums.

    None if it is not known.
    """
    kept, counted = gathered.kept.scores, found.counted.flatten().tolist()
    keys = [key for group in gathered.keys(settings.group) for key in group]
    estimate = ESTIMATORS[settings.estimator]
    apart = [
        estimate(torch.tensor(kept[OLD, key]), torch.tensor(kept[REFERENCE, key])).double().sum()
        for key, counts in zip(keys, counted, strict=True)
        if counts and (OLD, key) in kept and (REFERENCE, key) in kept
    ]
    return float(torch.stack(apart).mean()) if apart else None


def resumed_kl_coefficient(settings: RolloutSettings, known: float) -> float:
    """Return the KL coefficient of a rollout that a checkpoint stored with the coefficient `known`.

    It is the configured one, unless there is a target: then the configured one was the initial value, and
    `known` is its current value; but a `known` of 0, which no target changes, is of a run that had no target.
    """
    return settings.coefficient if settings.target is None or known == 0 else known


def next_coefficient(settings: RolloutSettings, coefficient: float, divergence: float | None) -> float:
    """Return the KL coefficient of the rollout after one of that `divergence`."""
    if settings.target is None or divergence is None:
        return coefficient
    return adaptive_coefficient(coefficient, divergence, settings.target, settings.samples, settings.horizon)


def _rows(sums: Sequence[Sequence[Outcome]]) -> tuple[Tensor, Tensor]:
    """Return the groups' numbers, fp64 [prompts, siblings], and which count, bool alike."""
    numbers = [[math.nan if isinstance(told, Unrewarded) else told for told in group] for group in sums]
    scores = torch.tensor(numbers, dtype=torch.float64)
    return scores, countable_mask(scores)


def _names(outcomes: Sequence[Mapping[str, Outcome]]) -> list[str]:
    return list(dict.fromkeys(name for told in outcomes for name in told))


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else math.nan
