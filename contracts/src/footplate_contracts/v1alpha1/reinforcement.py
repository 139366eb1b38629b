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
    """Named sets of choices of stage grpo; each choice may also be set by itself."""

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

    low: Probability | None = Field(None, description="1 less the lower bound; default: 0.2")
    high: _Distance | None = Field(None, description="upper bound less 1; default: low, and 0.28 with dapo")
    dual: Annotated[float, Field(ge=1.0, le=1e6)] | None = Field(
        None,
        description="upper limit of the ratio for negative advantages; default: no limit",
    )


class KlPenalty(ApiModel):
    """Penalty on the distance from the reference: their KL divergence, estimated from sampled tokens."""

    coefficient: _Weight | None = Field(
        None,
        description="weight, or initial weight with a target; default: 0.05 with ppo, 0 with grpo",
    )
    estimator: KlEstimator | None = Field(
        None,
        description="estimate from x: k1: x, in rewards only; k2: x squared / 2; k3: exp(-x) - 1 + x;"
        " default: k1 in rewards, k3 in the loss",
    )
    placement: KlPlacement | None = Field(None, description="default: reward with ppo, loss with grpo")
    target: _Distance | None = Field(
        None,
        description="target of KL: after each rollout the coefficient is multiplied by 1 + clip(KL / target"
        " - 1, -0.2, 0.2) x answers / horizon; default: a fixed coefficient",
    )
    horizon: Count | None = Field(None, description="horizon of target, in answers; default: 10000")

    rules: ClassVar = (
        Rule(
            "!has(self.target) || self.target > 0.0",
            "target must be above 0, not {self.target}",
            field="target",
        ),
        Rule(
            "!has(self.horizon) || has(self.target)",
            "horizon needs target, which is absent; set target, or remove it",
            field="horizon",
        ),
        Rule(
            "!has(self.target) || !has(self.coefficient) || self.coefficient > 0.0",
            "coefficient 0 stays 0 when target scales it; set it above 0, or remove target",
            field="coefficient",
        ),
    )


class ValueModel(FrozenModel):
    """Value model of ppo: expected remaining reward after each token; default: from the reward model."""

    from_policy: bool = Field(
        False, description="true: start from the trained model's starting weights, with a new head"
    )
    weight: _Weight = Field(0.1, description="weight of the value loss")
    clip: _Distance = Field(0.2, description="largest change of a value since the rollout")

    rules: ClassVar = (
        *FrozenModel.rules,
        Rule(
            "!self.fromPolicy || (!has(self.uri) && !has(self.run))",
            "fromPolicy and uri or run are both set; the weights can come from only one of them",
            field="fromPolicy",
        ),
    )


class DynamicSampling(ApiModel):
    """Replacement of groups whose rewards are all the same, which teach nothing."""

    enabled: bool = Field(True, description="true: replace such groups")
    max_rounds: Annotated[int, Field(ge=1, le=1000)] = Field(
        10, description="largest number of rounds; the rollout is then trained on as it is"
    )


class Reinforcement(ApiModel):
    """Policy optimisation; steps of a rollout: numIterations x generationBatchSize / globalBatchSize."""

    preset: Preset | None = Field(None, description="grpo: named set of choices; default: grpo")
    num_iterations: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="number of times that each answer is trained on; default: 4 with ppo, 1 with grpo"
    )
    clip: Clip = Clip()
    importance_sampling_level: ImportanceSamplingLevel | None = Field(
        None, description="unit of the ratio to the sampler; default: token, and sequence with gspo"
    )
    aggregation: Aggregation | None = Field(
        None,
        description="sequenceMean: mean over answers of the means over their tokens; tokenMean: mean over all"
        " tokens; constantLength: sum over rollout.maxTokens x answers; default: the preset's, and tokenMean"
        " with ppo",
    )
    kl: KlPenalty = KlPenalty()
    reference: ReferenceModel | None = Field(
        None, description="model to which KL is measured; default: the starting weights"
    )
    group_advantage: GroupAdvantage | None = Field(
        None,
        description="grpo: groupMean: reward less the group's mean; groupDeviation and batchDeviation:"
        " divided by a deviation, too; leaveOneOut: less the mean of the others; default: the preset's",
    )
    dynamic_sampling: DynamicSampling | None = Field(None, description="grpo only; default: with dapo only")
    overlong_tokens: Count | None = Field(
        None,
        description="grpo: number of tokens before rollout.maxTokens over which rewards fall by up to 1;"
        " default: a fifth of it with dapo, otherwise none",
    )
    score_position: ScorePosition | None = Field(
        None, description="ppo: place of the score: the last token, or one place after it; default: lastToken"
    )
    gamma: Probability | None = Field(None, description="ppo: discount of rewards; default: 1")
    gae_lambda: Probability | None = Field(
        None, description="ppo: lambda of generalized advantage estimation; default: 0.95"
    )
    whitening: bool | None = Field(
        None, description="ppo: normalize a rollout's advantages to mean 0, deviation 1; default: true"
    )
    missing_eos_penalty: _Distance | None = Field(
        None, description="ppo: amount subtracted from the score of an answer without an end; default: 0"
    )
    value: ValueModel | None = None
