"""Settings of a rollout and of training on it, from the run's sections: pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.reinforcement import (
    GroupAdvantage,
    KlEstimator,
    KlPlacement,
    Reinforcement,
    ScorePosition,
)
from footplate_contracts.v1alpha1.rollout import Sampling
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.rollout.groups import GroupPlan


@dataclass(frozen=True)
class ValueSettings:
    """Settings of a stage with a value for each token."""

    gamma: float
    lam: float
    whitening: bool
    after_end: bool  # the score of an answer has a place of its own behind it
    missing_eos_penalty: float
    kl_in_reward: bool  # else in the loss

    @classmethod
    def of(cls, learning: Reinforcement) -> ValueSettings:
        """Build from a resolved section."""
        assert learning.gamma is not None and learning.gae_lambda is not None, "resolve() fills these in"
        assert learning.whitening is not None and learning.missing_eos_penalty is not None
        return cls(
            gamma=learning.gamma,
            lam=learning.gae_lambda,
            whitening=learning.whitening,
            after_end=learning.score_position is ScorePosition.AFTER_LAST_TOKEN,
            missing_eos_penalty=learning.missing_eos_penalty,
            kl_in_reward=learning.kl.placement is KlPlacement.REWARD,
        )


@dataclass(frozen=True)
class RolloutSettings:
    """Settings of one run, equal for all its rollouts."""

    groups: GroupPlan
    group: int  # answers to a prompt
    batch: int  # answers of a step
    epochs: int  # how often each is trained on
    max_tokens: int
    seed: int
    rule: SamplingRule
    advantage: GroupAdvantage | None  # None: there are values
    overlong_tokens: int | None
    max_missing_reward_ratio: float
    coefficient: float = 0.0  # of the KL from the reference at first; 0: there is no reference
    estimator: KlEstimator = KlEstimator.K3
    target: float | None = None  # of that KL; None: the coefficient stays
    horizon: int = 10_000  # answers
    values: ValueSettings | None = None
    stop: tuple[str, ...] = ()  # texts that end an answer

    @classmethod
    def of(cls, config: RunConfig) -> RolloutSettings:
        """Build from a resolved config that has the sections."""
        rollout, learning, reward = config.rollout, config.reinforcement, config.reward
        assert rollout is not None and learning is not None and reward is not None
        assert rollout.generation_batch_size is not None and rollout.num_generations is not None, (
            "resolve() fills these in"
        )
        assert learning.num_iterations is not None
        assert reward.max_missing_reward_ratio is not None
        dynamic = learning.dynamic_sampling
        rounds = dynamic.max_rounds if dynamic is not None and dynamic.enabled else 0
        return cls(
            groups=GroupPlan(rollout.generation_batch_size // rollout.num_generations, rounds),
            group=rollout.num_generations,
            batch=config.training.global_batch_size,
            epochs=learning.num_iterations,
            max_tokens=rollout.max_tokens,
            seed=config.training.seed,
            rule=_rule_of(rollout.sampling),
            advantage=learning.group_advantage,
            overlong_tokens=learning.overlong_tokens,
            max_missing_reward_ratio=reward.max_missing_reward_ratio,
            coefficient=learning.kl.coefficient or 0.0,
            estimator=learning.kl.estimator or KlEstimator.K3,
            target=learning.kl.target,
            horizon=learning.kl.horizon or 10_000,
            values=ValueSettings.of(learning) if STAGES[config.stage].has_value_model else None,
            stop=tuple(rollout.stop),
        )

    @classmethod
    def for_generation(cls, config: RunConfig) -> RolloutSettings:
        """Build from a resolved config whose rollouts are only stored, one a step, and train nothing."""
        rollout, reward = config.rollout, config.reward
        assert rollout is not None
        assert rollout.generation_batch_size is not None and rollout.num_generations is not None, (
            "resolve() fills these in"
        )
        return cls(
            groups=GroupPlan(rollout.generation_batch_size // rollout.num_generations),
            group=rollout.num_generations,
            batch=rollout.generation_batch_size,
            epochs=1,
            max_tokens=rollout.max_tokens,
            seed=config.training.seed,
            rule=_rule_of(rollout.sampling),
            advantage=GroupAdvantage.MEAN,
            overlong_tokens=None,
            max_missing_reward_ratio=(reward and reward.max_missing_reward_ratio) or 0.0,
            stop=tuple(rollout.stop),
        )

    def with_id_limit(self, ids: int) -> RolloutSettings:
        """Return settings that sample only ids below `ids`: readers of the answers know those of the data."""
        return replace(self, rule=replace(self.rule, ids=ids))

    @property
    def samples(self) -> int:
        """Number of answers in a rollout."""
        return self.groups.prompts * self.group

    @property
    def updates(self) -> int:
        """Number of steps that a rollout is trained on."""
        return self.epochs * self.samples // self.batch

    def rollout_start_step(self, step: int) -> int:
        """Return the step after which the rollout of step number `step`, from 1, began."""
        return (step - 1) // self.updates * self.updates


def _rule_of(sampling: Sampling) -> SamplingRule:
    """Build the sampling rule from `rollout.sampling`."""
    return SamplingRule(
        repetition_penalty=sampling.repetition_penalty or 1.0,
        temperature=sampling.temperature,
        top_k=sampling.top_k or 0,
        top_p=sampling.top_p or 1.0,
        min_p=sampling.min_p or 0.0,
    )
