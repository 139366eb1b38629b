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
        [], description="environment variables from Secrets that it needs, and nobody else gets"
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
        "####", description="text before it"
    )


class MathVerify(ApiModel):
    """Reward 1 where the answer and the reference are one in mathematics, otherwise 0."""


class RegularExpression(ApiModel):
    """Reward 1 where it is found in the answer, otherwise 0."""

    pattern: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="as Python writes one")
    full_match: bool = Field(False, description="true: the whole answer must match")


class JsonSchema(ApiModel):
    """Reward 1 where the answer is JSON that its schema allows, otherwise 0."""

    text: Annotated[str, Field(min_length=2, max_length=16_384)] = Field(description="the schema, as JSON")


class LengthReward(ApiModel):
    """Length of an answer, as a share of rollout.maxTokens; or a penalty beyond the wanted length."""

    tokens: Count | None = Field(None, description="0 up to here, then falling to -1 at rollout.maxTokens")


class ProgramTests(ApiModel):
    """The share of its tests that a program passes."""

    column: Name = Field("tests", description="of the prompts, which holds them")


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
    """A reward; exactly one kind is stated."""

    name: Label = Field(description="how metrics call it")
    weight: _Weight = Field(1.0, description="in the sum of rewards; 0: it is reported, and no more")
    column: Name = Field("answer", description="of the prompts, which holds the reference answer")
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        60, description="for the answers that it is asked about at once"
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
            f"reward {{self.name}} must state exactly one of {', '.join(_KINDS[:-1])}",
            field="name",
        ),
        Rule(
            "self.name.matches('^[A-Za-z0-9_./-]{1,55}$')",
            "name {self.name} must be at most 55 letters, digits and _ . / -; rows call it rewards/name",
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

    weight: _Weight | None = Field(None, description="of the reward model in the sum; default: 1")
    normalization: RewardNormalization | None = Field(
        None,
        description="of the reward model's scores, by a mean and a deviation. heldOut: of the held-out pairs"
        " that it was validated on; running: of all answers that were trained on so far; default: heldOut"
        " with ppo, else none",
    )
    functions: Annotated[list[RewardFunction], Field(min_length=1, max_length=16)] | None = Field(
        None, description="rewards that are computed by functions"
    )
    max_missing_reward_ratio: Probability | None = Field(
        None,
        description="share of a rollout's samples that may stay without a reward; beyond it the run fails;"
        " default: 0.1",
    )
    centering: Annotated[float, Field(ge=0.0, le=1e6)] | None = Field(
        None,
        description="of stage reward: weight of the squared sum of both answers' scores, which keeps their"
        " mean near 0; default: 0",
    )

    rules: ClassVar = (
        *FrozenModel.rules,
        *(
            forbidden_rule(
                f"!has(self.{field}) || has(self.uri) || has(self.run)",
                f"{field} is of the reward model, and neither uri nor run names one; remove it",
                field=field,
            )
            for field in ("weight", "normalization")
        ),
        Rule(
            "!has(self.functions) || self.functions.all(a, self.functions.exists_one(b, b.name == a.name))",
            "two functions have one name; metrics tell them apart by it",
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
            f"reward.{field} is of stages that reward answers, and stage is reward; remove it",
            field=f"reward.{field}",
        )
        for field in _OF_ROLLOUTS
    ),
    Rule(
        f"!has(self.reward) || !{NAMES_A_MODEL} || !has(self.reward.functions)"
        " || !self.reward.functions.exists(a, a.name == 'model')",
        "a function is called model, as the reward model is; give it another name",
        field="reward.functions",
    ),
    Rule(
        f"!has(self.reward) || !has(self.reward.functions) || {_SLOW}.size() == 0",
        f"timeoutSeconds {{{_SLOW}[0].timeoutSeconds}} of {{{_SLOW}[0].name}} may pass"
        f" {{{_SLOW}.map(f, {_CALLS})[0]}} times before an answer is told, and ranks that tell none for"
        f" resilience.hang.scoringSeconds {{{_HANG}}} are taken to hang; lower timeoutSeconds, or set"
        f" scoringSeconds above {{{_SLOW}.map(f, f.timeoutSeconds * {_CALLS})[0]}}",
        field="reward.functions",
    ),
    forbidden_rule(
        "self.stage != 'reward' || self.training.loss.name == 'crossEntropy'"
        " && self.training.loss.labelSmoothing == 0.0 && self.training.loss.zLoss == 0.0",
        "stage reward compares scores, and training.loss is of tokens; remove it",
        field="training.loss",
    ),
    Rule(
        "self.stage != 'reward' || !has(self.data.overlong) || self.data.overlong != 'cut'",
        "data.overlong cut would compare answers without their ends; use refuse or drop",
        field="data.overlong",
    ),
)
