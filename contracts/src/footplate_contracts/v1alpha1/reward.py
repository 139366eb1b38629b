"""`spec.reward`: training of a reward model, and rewards of a rollout's answers."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from footplate_contracts.rules import Rule, forbidden_rule, unsupported_field
from footplate_contracts.v1alpha1.references import FrozenModel
from footplate_contracts.v1alpha1.resilience import SCORING_SECONDS
from footplate_contracts.v1alpha1.types import ApiModel, Count, Label, Name, Probability

_Weight = Annotated[float, Field(ge=-1e6, le=1e6)]


class UserFunction(ApiModel):
    """A user's function in the trainer's image, or on a mounted volume; async is allowed."""

    name: Annotated[str, Field(min_length=3, max_length=256)] = Field(description="package.module:function")
    secrets: Annotated[list[Name], Field(max_length=16)] = Field(
        [], description="environment variables from Secrets, for this function only"
    )

    rules: ClassVar = (
        Rule(
            "self.name.matches('^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$')",
            "name {self.name} is not of the form package.module:function",
            field="name",
        ),
    )


class NumberMatch(ApiModel):
    """Reward 1 where the last number behind a delimiter equals the reference answer's, otherwise 0."""

    delimiter: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        "####", description="text before the number"
    )


class MathVerify(ApiModel):
    """Reward 1 where the answer mathematically equals the reference, otherwise 0."""


class RegularExpression(ApiModel):
    """Reward 1 where the answer has a match, otherwise 0."""

    pattern: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="in Python's syntax")
    full_match: bool = Field(False, description="true: the whole answer must match")


class JsonSchema(ApiModel):
    """Reward 1 where the answer is valid JSON under the schema, otherwise 0."""

    text: Annotated[str, Field(min_length=2, max_length=16_384)] = Field(description="JSON schema, as text")


class LengthReward(ApiModel):
    """Length of an answer, as a share of rollout.maxTokens; or a penalty beyond tokens."""

    tokens: Count | None = Field(None, description="0 up to this length, falling to -1 at rollout.maxTokens")


class ProgramTests(ApiModel):
    """The share of its tests that a program passes."""

    column: Name = Field("tests", description="column of the prompts with the tests")


_KINDS: Final = (
    "function",
    "number",
    "mathVerify",
    "regularExpression",
    "jsonSchema",
    "length",
    "programTests",
)


class RewardFunction(ApiModel):
    """A reward of exactly one kind."""

    name: Label = Field(description="name of the reward in metrics")
    weight: _Weight = Field(1.0, description="weight in the sum of rewards; 0: reported only")
    column: Name = Field("answer", description="column of the prompts with the reference answer")
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        60, description="time limit for a call, which scores several answers"
    )
    function: UserFunction | None = None
    number: NumberMatch | None = None
    math_verify: MathVerify | None = None
    regular_expression: RegularExpression | None = None
    json_schema: JsonSchema | None = None
    length: LengthReward | None = None
    program_tests: ProgramTests | None = None

    rules: ClassVar = (
        Rule(
            f"[{', '.join(f'has(self.{kind})' for kind in _KINDS)}].exists_one(stated, stated)",
            f"reward {{self.name}} must set exactly one of {', '.join(_KINDS[:-1])}",
            field="name",
        ),
        Rule(
            "self.name.matches('^[A-Za-z0-9_./-]{1,55}$')",
            "name {self.name} must be at most 55 letters, digits and _ . / -; it becomes rewards/NAME in"
            " metrics",
            field="name",
        ),
        unsupported_field("programTests"),
    )


class RewardNormalization(StrEnum):
    """Mean and deviation that normalize the scores of a reward model."""

    NONE = "none"
    HELD_OUT = "heldOut"
    RUNNING = "running"


class Reward(FrozenModel):
    """The reward model, a run of stage reward or a folder with one label, and functions beside it."""

    weight: _Weight | None = Field(None, description="weight of the reward model in the sum; default: 1")
    normalization: RewardNormalization | None = Field(
        None,
        description="source of the mean and deviation by which the reward model's scores are normalized."
        " heldOut: the held-out pairs of its validation; running: all answers trained on so far; default:"
        " heldOut with ppo, else none",
    )
    functions: Annotated[list[RewardFunction], Field(min_length=1, max_length=16)] | None = Field(
        None, description="rewards computed by functions"
    )
    max_missing_reward_ratio: Probability | None = Field(
        None,
        description="share of a rollout's samples that may lack a reward; above it the run fails; default:"
        " 0.1",
    )
    centering: Annotated[float, Field(ge=0.0, le=1e6)] | None = Field(
        None,
        description="stage reward: weight of the squared sum of both answers' scores, which keeps their"
        " mean near 0; default: 0",
    )

    rules: ClassVar = (
        *FrozenModel.rules,
        *(
            forbidden_rule(
                f"!has(self.{field}) || has(self.uri) || has(self.run)",
                f"{field} belongs to the reward model, and neither uri nor run is set; remove it",
                field=field,
            )
            for field in ("weight", "normalization")
        ),
        Rule(
            "!has(self.functions) || self.functions.all(a, self.functions.exists_one(b, b.name == a.name))",
            "two functions have the same name; metrics need distinct names",
            field="functions",
        ),
    )


def secret_names(functions: Iterable[RewardFunction] | None) -> list[str]:
    """Return the variables that reward functions need from Secrets."""
    return [
        name for reward in functions or () if reward.function is not None for name in reward.function.secrets
    ]


# A call of one's own function that takes too long is repeated in halves: so often before an answer is told.
# Length and number are computed where the answer is.
_CALLS: Final = "(has(f.function) ? 10 : has(f.length) || has(f.number) ? 0 : 1)"
_SAID: Final = "self.resilience.hang.scoringSeconds"
_HANG: Final = f"(has(self.resilience.hang) && has({_SAID}) ? {_SAID} : {SCORING_SECONDS})"
_SLOW: Final = f"self.reward.functions.filter(f, f.timeoutSeconds * {_CALLS} >= {_HANG})"
# Whether a spec that has the section names a reward model.
NAMES_A_MODEL: Final = "(has(self.reward.uri) || has(self.reward.run))"
_OF_ROLLOUTS: Final = ("uri", "run", "weight", "normalization", "functions", "maxMissingRewardRatio")
# Of a TrainingRunSpec: what in `reward` another stage has, and what else stage reward has no use for.
REWARD_RULES: Final = (
    *(
        forbidden_rule(
            f"self.stage != 'reward' || !has(self.reward) || !has(self.reward.{field})",
            f"reward.{field} is for stages that reward answers, and stage is reward; remove it",
            field=f"reward.{field}",
        )
        for field in _OF_ROLLOUTS
    ),
    Rule(
        f"!has(self.reward) || !{NAMES_A_MODEL} || !has(self.reward.functions)"
        " || !self.reward.functions.exists(a, a.name == 'model')",
        "a function has the name model, which is the reward model's; rename it",
        field="reward.functions",
    ),
    Rule(
        f"!has(self.reward) || !has(self.reward.functions) || {_SLOW}.size() == 0",
        f"timeoutSeconds {{{_SLOW}[0].timeoutSeconds}} of {{{_SLOW}[0].name}} may pass"
        f" {{{_SLOW}.map(f, {_CALLS})[0]}} times before an answer is scored, and ranks without a scored"
        f" answer for resilience.hang.scoringSeconds {{{_HANG}}} count as hanging; lower timeoutSeconds, or"
        f" set scoringSeconds above {{{_SLOW}.map(f, f.timeoutSeconds * {_CALLS})[0]}}",
        field="reward.functions",
    ),
    forbidden_rule(
        "self.stage != 'reward' || self.training.loss.name == 'crossEntropy'"
        " && self.training.loss.labelSmoothing == 0.0 && self.training.loss.zLoss == 0.0",
        "stage reward compares scores, and training.loss is a loss of tokens; remove it",
        field="training.loss",
    ),
    Rule(
        "self.stage != 'reward' || !has(self.data.overlong) || self.data.overlong != 'cut'",
        "data.overlong cut would compare answers without their ends; use refuse or drop",
        field="data.overlong",
    ),
)
