"""Rules for runs of stage ppo, beside those of all stages that learn from their own answers."""

from __future__ import annotations

from typing import Final

from footplate_contracts.rules import forbidden_rule, required_rule
from footplate_contracts.v1alpha1.reward import NAMES_A_MODEL

_ONLY: Final = "self.stage != 'ppo'"
_LEARNING: Final = f"{_ONLY} || !has(self.reinforcement)"
_REWARD: Final = f"{_ONLY} || !has(self.reward)"
_FROM_POLICY: Final = (
    "(has(self.reinforcement) && has(self.reinforcement.value) && self.reinforcement.value.fromPolicy)"
)
_ELSEWHERE: Final = (
    "(has(self.reinforcement) && has(self.reinforcement.value)"
    " && (has(self.reinforcement.value.uri) || has(self.reinforcement.value.run)))"
)
_OF_GRPO: Final = ("preset", "groupAdvantage", "dynamicSampling", "overlongTokens")

PPO_RULES: Final = (
    required_rule(
        f"{_REWARD} || {NAMES_A_MODEL} || {_FROM_POLICY} || {_ELSEWHERE}",
        "reinforcement.value is required without a reward model, from which the value model would start;"
        " set its fromPolicy, uri or run",
        field="reinforcement.value",
    ),
    forbidden_rule(
        f"{_ONLY} || !{_FROM_POLICY} || !has(self.resumeFrom)",
        "value.fromPolicy with resumeFrom is not supported by this release; start with initFrom, or set"
        " value.uri",
        field="reinforcement.value.fromPolicy",
    ),
    *(
        forbidden_rule(
            f"{_LEARNING} || !has(self.reinforcement.{field})",
            f"{field} is a field of stage grpo, and stage is ppo; remove it",
            field=f"reinforcement.{field}",
        )
        for field in _OF_GRPO
    ),
    forbidden_rule(
        f"{_LEARNING} || !has(self.reinforcement.importanceSamplingLevel) ||"
        " self.reinforcement.importanceSamplingLevel == 'token'",
        "importanceSamplingLevel {self.reinforcement.importanceSamplingLevel} is for stage grpo: with"
        " values each token has its own advantage; use token",
        field="reinforcement.importanceSamplingLevel",
    ),
)
