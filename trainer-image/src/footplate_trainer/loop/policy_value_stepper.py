"""A policy and its value model, trained in the same step.

Each has its own optimizer, gradient norm and clip, and both share one schedule. Neither is updated before the
gradients of both are known to be finite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from footplate_trainer.data.loader import StepBatch
from footplate_trainer.loop.stepper import StepFlags, Stepper, StepResult
from footplate_trainer.metrics.stopwatch import Stopwatch

VALUE_NORM: Final = "value/gradient_norm"
POLICY_LOSS: Final = "policy/loss"


@dataclass(frozen=True)
class PolicyValueStepper:
    """Steps of a policy and its value model; see train.Steps.

    A step returns the policy's result, but the sum of both losses.
    """

    policy: Stepper
    value: Stepper
    places: Callable[[int], StepBatch]  # by a step's number, from 1: what the value model learns in it

    @property
    def stopwatch(self) -> Stopwatch:
        """The stopwatch that both steppers share."""
        return self.policy.stopwatch

    def step(self, number: int, batch: StepBatch, rate: float, flags: StepFlags) -> StepResult:
        """See train.Steps."""
        of_policy = self.policy.compute(number, batch, rate, flags)
        of_value = self.value.compute(number, self.places(number), rate, StepFlags())
        policy, value = self.policy.update(of_policy), self.value.update(of_value)
        told = {POLICY_LOSS: policy.loss, VALUE_NORM: value.gradient_norm}
        return replace(policy, loss=policy.loss + value.loss, means={**policy.means, **value.means, **told})
