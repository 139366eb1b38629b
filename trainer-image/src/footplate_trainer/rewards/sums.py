"""The sum of a sample's rewards, and the limit of samples without one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from footplate_trainer.errors import TooManyUnrewarded
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey, Unrewarded
from footplate_trainer.rewards.reward_values import LARGEST

_SHOWN: Final = 3  # reasons in an error


def weighted_sum(outcomes: Mapping[str, Outcome], weights: Mapping[str, float]) -> Outcome:
    """Return Σ weight × reward of one sample; Unrewarded if a reward with a weight is missing.

    A reward of weight 0 is only reported: it neither adds to the sum nor can be missed. `outcomes` has all
    names of `weights`. The sum does not depend on the order of names, and is within LARGEST, as each reward
    is.
    """
    terms = []
    for name, weight in weights.items():
        outcome = outcomes[name]
        if weight == 0:
            continue
        if isinstance(outcome, Unrewarded):
            return outcome
        terms.append(weight * outcome)
    total = math.fsum(terms)
    if not abs(total) <= LARGEST:  # NaN is none, either
        return Unrewarded(f"the weighted sum of its rewards is {total:g}, beyond ±{LARGEST:g}")
    return total


@dataclass(frozen=True)
class UnrewardedShare:
    """The number of samples in a rollout over all ranks, and of those without a sum."""

    samples: int
    unrewarded: int

    def check(self, most: float, reasons: Sequence[str]) -> None:
        """Raise TooManyUnrewarded if the share is above `most`; `reasons` are those of this rank."""
        allowed = math.floor(Fraction(repr(most)) * self.samples)  # of the share as it is written
        if self.unrewarded <= allowed:
            return
        told = list(dict.fromkeys(reasons))
        more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        raise TooManyUnrewarded(
            f"{self.unrewarded} of {self.samples} samples of the rollout have no reward, and "
            f"reward.maxMissingRewardRatio {most:g} allows {allowed}: "
            f"{'; '.join(told[:_SHOWN])}{more}"
        )


def describe_largest(
    rewards: Mapping[SampleKey, Mapping[str, float | str]], weights: Mapping[str, float]
) -> str:
    """Describe the largest weighted reward by absolute value, and its sample; "" if there is none.

    Rewards without a weight and values that are not finite numbers do not count.
    """
    numbers = [
        (abs(weights[name] * value), key, name, weights[name] * value)
        for key, values in rewards.items()
        for name, value in values.items()
        if isinstance(value, float) and math.isfinite(value) and weights.get(name, 0.0) != 0
    ]
    if not numbers:
        return ""
    _, key, name, value = max(numbers)
    return (
        f"the largest weighted reward in the rollout of step {key.step} is {value:g}, of {name} for answer "
        f"{key.sibling} to prompt {key.prompt}"
    )


def sums_and_counts(
    outcomes: Iterable[Mapping[str, Outcome]], names: Iterable[str]
) -> dict[str, tuple[float, int]]:
    """Return for each reward the sum and the count of its numbers, which ranks add up."""
    found = list(outcomes)
    numbers = {name: [value for row in found if isinstance(value := row.get(name), float)] for name in names}
    return {name: (math.fsum(values), len(values)) for name, values in numbers.items()}


def reasons(sums: Mapping[SampleKey, Outcome]) -> list[str]:
    """Return the reasons for missing sums, in the order of the samples' keys."""
    return [
        outcome.reason if str(key) in outcome.reason else f"{key}: {outcome.reason}"
        for key, outcome in sorted(sums.items())
        if isinstance(outcome, Unrewarded)
    ]
