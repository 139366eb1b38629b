"""`spec.reinforcement`: the objective of stages ppo and grpo over generated and rewarded answers.

Where papers and libraries use one word for several things, each has a name here;
`presets` states what a preset fills in.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Rule
from footplate_contracts.v1alpha1.references import FrozenModel, ReferenceModel
from footplate_contracts.v1alpha1.types import ApiModel, Count, Probability

_Weight = Annotated[float, Field(ge=0.0, le=1e6)]
_Distance = Annotated[float, Field(ge=0.0, le=1000.0)]


class Preset(StrEnum):
    """Named sets of choices of stage grpo; each choice may be stated beside them."""

    GRPO = "grpo"
    DAPO = "dapo"
    DR_GRPO = "dr_grpo"
    RLOO = "rloo"
    GSPO = "gspo"


class GroupAdvantage(StrEnum):
    """Computation of an answer's advantage from the rewards of its group."""

    MEAN = "groupMean"
    GROUP_DEVIATION = "groupDeviation"
    BATCH_DEVIATION = "batchDeviation"
    LEAVE_ONE_OUT = "leaveOneOut"


class Aggregation(StrEnum):
    """Reduction of token losses to one number; counts are those of the whole optimizer step."""

    SEQUENCE_MEAN = "sequenceMean"
    TOKEN_MEAN = "tokenMean"
    CONSTANT_LENGTH = "constantLength"


class ImportanceSamplingLevel(StrEnum):
    """Unit whose ratio to the sampler is taken."""

    TOKEN = "token"
    SEQUENCE = "sequence"


class ScorePosition(StrEnum):
    """Position that gets the score of an answer."""

    LAST_TOKEN = "lastToken"
    AFTER_LAST_TOKEN = "afterLastToken"


class KlEstimator(StrEnum):
    """Estimator of KL from x, the log-ratio of the model to its reference."""

    K1 = "k1"
    K2 = "k2"
    K3 = "k3"


class KlPlacement(StrEnum):
    """Term in which the KL divergence from the reference counts."""

    REWARD = "reward"
    LOSS = "loss"


class Clip(ApiModel):
    """Bounds of the ratio to the sampler."""

    low: Probability | None = Field(None, description="below 1; default: 0.2")
    high: _Distance | None = Field(None, description="above 1; default: low, and 0.28 with dapo")
    dual: Annotated[float, Field(ge=1.0, le=1e6)] | None = Field(
        None,
        description="with a negative advantage the ratio counts no more than this; default: without limit",
    )


class KlPenalty(ApiModel):
    """Penalty on the distance from the reference: their KL divergence, estimated from sampled tokens."""

    coefficient: _Weight | None = Field(
        None,
        description="its weight; where a target is given, at the start; default: 0.05 with ppo, 0 with grpo",
    )
    estimator: KlEstimator | None = Field(
        None,
        description="k1: x, in rewards only; k2: x squared / 2; k3: exp(-x) - 1 + x; default: k1 in rewards,"
        " k3 in the loss",
    )
    placement: KlPlacement | None = Field(None, description="default: reward with ppo, loss with grpo")
    target: _Distance | None = Field(
        None,
        description="the coefficient is multiplied by 1 + clip(KL / target - 1, -0.2, 0.2) x answers"
        " / horizon after each rollout; default: the coefficient is fixed",
    )
    horizon: Count | None = Field(None, description="of target, in answers; default: 10000")

    rules: ClassVar = (
        Rule(
            "!has(self.target) || self.target > 0.0",
            "target must be above 0, not {self.target}",
            field="target",
        ),
        Rule(
            "!has(self.horizon) || has(self.target)",
            "horizon is of target, which is absent; state target, or remove it",
            field="horizon",
        ),
        Rule(
            "!has(self.target) || !has(self.coefficient) || self.coefficient > 0.0",
            "coefficient 0 stays 0 by whatever it is multiplied; state one above 0, or remove target",
            field="coefficient",
        ),
    )


class ValueModel(FrozenModel):
    """Value model of ppo: what an answer is still worth after each token; default: from the reward model."""

    from_policy: bool = Field(
        False, description="true: the starting weights of the model that is trained, with a new head"
    )
    weight: _Weight = Field(0.1, description="of its loss")
    clip: _Distance = Field(0.2, description="how far a value may move from what it was at the rollout")

    rules: ClassVar = (
        *FrozenModel.rules,
        Rule(
            "!self.fromPolicy || (!has(self.uri) && !has(self.run))",
            "fromPolicy and a folder or a run are both given; the weights come from one of them",
            field="fromPolicy",
        ),
    )


class DynamicSampling(ApiModel):
    """Replacement of groups whose rewards are all the same, which teach nothing."""

    enabled: bool = Field(True, description="whether")
    max_rounds: Annotated[int, Field(ge=1, le=1000)] = Field(
        10, description="so often at most; then the rollout is trained on as it is"
    )


class Reinforcement(ApiModel):
    """Policy optimisation; steps of a rollout: numIterations x generationBatchSize / globalBatchSize."""

    preset: Preset | None = Field(None, description="of grpo; default: grpo")
    num_iterations: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="how often each answer is trained on; default: 4 with ppo, 1 with grpo"
    )
    clip: Clip = Clip()
    importance_sampling_level: ImportanceSamplingLevel | None = Field(
        None, description="default: token, and sequence with gspo"
    )
    aggregation: Aggregation | None = Field(
        None,
        description="sequenceMean: mean over answers of the means over their tokens; tokenMean: mean over all"
        " tokens; constantLength: sum over rollout.maxTokens x answers; default: the preset's, and tokenMean"
        " with ppo",
    )
    kl: KlPenalty = KlPenalty()
    reference: ReferenceModel | None = Field(
        None, description="from which KL is measured; default: the starting weights"
    )
    group_advantage: GroupAdvantage | None = Field(
        None,
        description="of grpo: groupMean: reward less the group's mean; groupDeviation and batchDeviation:"
        " that, divided by a deviation; leaveOneOut: less the mean of the others; default: the preset's",
    )
    dynamic_sampling: DynamicSampling | None = Field(None, description="of grpo; default: with dapo only")
    overlong_tokens: Count | None = Field(
        None,
        description="of grpo: rewards fall by up to 1 over the last so many tokens before rollout.maxTokens;"
        " default: a fifth of it with dapo, otherwise none",
    )
    score_position: ScorePosition | None = Field(
        None, description="of ppo: the last token, or one place behind it; default: lastToken"
    )
    gamma: Probability | None = Field(None, description="of ppo: discount of rewards; default: 1")
    gae_lambda: Probability | None = Field(
        None, description="of ppo: lambda of generalised advantage estimation; default: 0.95"
    )
    whitening: bool | None = Field(
        None, description="of ppo: advantages of a rollout get mean 0 and deviation 1; default: true"
    )
    missing_eos_penalty: _Distance | None = Field(
        None, description="of ppo: what the score of an answer without an end is lowered by; default: 0"
    )
    value: ValueModel | None = None
