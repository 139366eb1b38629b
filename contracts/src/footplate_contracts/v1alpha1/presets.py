"""Presets of stage grpo, and the other defaults of ppo and grpo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from footplate_contracts.v1alpha1.reinforcement import (
    Aggregation,
    Clip,
    DynamicSampling,
    GroupAdvantage,
    ImportanceSamplingLevel,
    KlEstimator,
    KlPenalty,
    KlPlacement,
    Preset,
    Reinforcement,
    ScorePosition,
    ValueModel,
)
from footplate_contracts.v1alpha1.reward import Reward, RewardNormalization
from footplate_contracts.v1alpha1.rollout import Rollout

NUM_GENERATIONS: Final = 8
LOW: Final = 0.2
UNREWARDED: Final = 0.1


@dataclass(frozen=True)
class PresetDefaults:
    """Values that a preset sets."""

    advantage: GroupAdvantage
    aggregation: Aggregation
    importance_sampling_level: ImportanceSamplingLevel = ImportanceSamplingLevel.TOKEN
    high: float | None = None  # None: as low
    dynamic_sampling: bool = False
    overlong_share: int | None = None  # one of so many parts of the longest answer


PRESETS: Final[Mapping[Preset, PresetDefaults]] = {
    # Shao et al. 2024
    Preset.GRPO: PresetDefaults(GroupAdvantage.GROUP_DEVIATION, Aggregation.SEQUENCE_MEAN),
    # Yu et al. 2025
    Preset.DAPO: PresetDefaults(
        GroupAdvantage.GROUP_DEVIATION,
        Aggregation.TOKEN_MEAN,
        high=0.28,
        dynamic_sampling=True,
        overlong_share=5,
    ),
    # Liu et al. 2025
    Preset.DR_GRPO: PresetDefaults(GroupAdvantage.MEAN, Aggregation.CONSTANT_LENGTH),
    # Ahmadian et al. 2024: what an answer gains weighs each of its tokens alike, however long it is
    Preset.RLOO: PresetDefaults(GroupAdvantage.LEAVE_ONE_OUT, Aggregation.CONSTANT_LENGTH),
    # Zheng et al. 2025
    Preset.GSPO: PresetDefaults(
        GroupAdvantage.GROUP_DEVIATION,
        Aggregation.SEQUENCE_MEAN,
        importance_sampling_level=ImportanceSamplingLevel.SEQUENCE,
    ),
}


def resolve_ppo(stated: Reinforcement) -> Reinforcement:
    """Fill in the defaults of ppo."""
    clip, kl = stated.clip, stated.kl
    low = LOW if clip.low is None else clip.low
    usual = (
        KlEstimator.K3 if kl.placement is KlPlacement.LOSS else KlEstimator.K1
    )  # in a loss k1 moves nothing
    return stated.model_copy(
        update={
            "num_iterations": stated.num_iterations or 4,
            "clip": Clip(low=low, high=low if clip.high is None else clip.high, dual=clip.dual),
            "importance_sampling_level": ImportanceSamplingLevel.TOKEN,
            "aggregation": stated.aggregation or Aggregation.TOKEN_MEAN,
            "kl": KlPenalty(
                coefficient=0.05 if kl.coefficient is None else kl.coefficient,
                estimator=kl.estimator or usual,
                placement=kl.placement or KlPlacement.REWARD,
                target=kl.target,
                horizon=kl.horizon if kl.target is None else kl.horizon or 10_000,
            ),
            "score_position": stated.score_position or ScorePosition.LAST_TOKEN,
            "gamma": 1.0 if stated.gamma is None else stated.gamma,
            "gae_lambda": 0.95 if stated.gae_lambda is None else stated.gae_lambda,
            "whitening": True if stated.whitening is None else stated.whitening,
            "missing_eos_penalty": stated.missing_eos_penalty or 0.0,
            "value": stated.value or ValueModel(),
        }
    )


def resolve_reinforcement(stated: Reinforcement, max_tokens: int) -> Reinforcement:
    """Fill in the choices of the preset, and all other defaults of grpo."""
    preset = stated.preset or Preset.GRPO
    chosen, clip, kl = PRESETS[preset], stated.clip, stated.kl
    low = LOW if clip.low is None else clip.low
    high = clip.high if clip.high is not None else low if chosen.high is None else chosen.high
    overlong = None if chosen.overlong_share is None else max(1, max_tokens // chosen.overlong_share)
    return stated.model_copy(
        update={
            "preset": preset,
            "num_iterations": stated.num_iterations or 1,
            "clip": Clip(low=low, high=high, dual=clip.dual),
            "importance_sampling_level": stated.importance_sampling_level or chosen.importance_sampling_level,
            "aggregation": stated.aggregation or chosen.aggregation,
            "kl": KlPenalty(
                coefficient=kl.coefficient or 0.0,
                estimator=kl.estimator or KlEstimator.K3,
                placement=kl.placement or KlPlacement.LOSS,
                target=kl.target,
                horizon=kl.horizon if kl.target is None else kl.horizon or 10_000,
            ),
            "group_advantage": stated.group_advantage or chosen.advantage,
            "dynamic_sampling": stated.dynamic_sampling or DynamicSampling(enabled=chosen.dynamic_sampling),
            "overlong_tokens": stated.overlong_tokens or overlong,
        }
    )


def resolve_rollout(
    stated: Rollout, global_batch_size: int, num_generations: int = NUM_GENERATIONS
) -> Rollout:
    """Fill in the defaults; `num_generations` is that of the stage."""
    return stated.model_copy(
        update={
            "generation_batch_size": stated.generation_batch_size or global_batch_size,
            "num_generations": stated.num_generations or num_generations,
        }
    )


def resolve_reward(stated: Reward, usual: RewardNormalization = RewardNormalization.NONE) -> Reward:
    """Fill in the defaults; `usual` is the stage's normalization of a reward model's scores."""
    share = UNREWARDED if stated.max_missing_reward_ratio is None else stated.max_missing_reward_ratio
    filled: dict[str, object] = {"max_missing_reward_ratio": share}
    if stated.uri is not None:
        filled["weight"] = 1.0 if stated.weight is None else stated.weight
        filled["normalization"] = stated.normalization or usual
    return stated.model_copy(update=filled)
