"""Answers of a rollout that have no reward, with the reasons: pure.

Their share is of all sampled answers. A group without any reward has no learning signal, so dynamic sampling
replaces it: the remaining groups alone would hide that a function fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from footplate_trainer.rewards.reward_samples import Outcome, SampleKey, Unrewarded
from footplate_trainer.rewards.sums import UnrewardedShare, reasons
from footplate_trainer.rollout.journal_records import CollectedRollout

_SHOWN: Final = 3  # rewards in a warning
_SUM: Final = "their sum"  # where each reward is a number, and what they add up to is none


@dataclass(frozen=True)
class UnrewardedAnswers:
    """Unrewarded answers of one rollout."""

    step: int  # after which it began
    answers: int  # that were asked, in all
    sums: Mapping[SampleKey, Unrewarded]  # of those that have none
    silent: Mapping[str, list[str]]  # by reward, of whatever weight: why there is none, an answer each

    @classmethod
    def of(
        cls, gathered: CollectedRollout, sums: Mapping[SampleKey, Outcome], group: int
    ) -> UnrewardedAnswers:
        """Build from a rollout whose groups have `group` answers; `sums` are those of all its answers."""
        places = range(gathered.first, gathered.first + gathered.asked)
        keys = [SampleKey(gathered.step, place, sibling) for place in places for sibling in range(group)]
        missing = {key: summed for key in keys if isinstance(summed := sums[key], Unrewarded)}
        silent: dict[str, list[str]] = {}
        for key in keys:
            said = gathered.kept.rewards.get(key, {})
            why = {name: reason for name, reason in said.items() if isinstance(reason, str)}
            if key in missing and missing[key].reason not in why.values():
                why[_SUM] = reasons({key: missing[key]})[0]
            for name, reason in why.items():
                silent.setdefault(name, []).append(reason)
        return cls(gathered.step, len(keys), missing, silent)

    @property
    def values(self) -> dict[str, float]:
        """Metrics of a step's row."""
        return {"answers/unrewarded": len(self.sums) / self.answers}

    def check(self, most: float) -> None:
        """Raise TooManyUnrewarded if the share of answers without a sum is above `most`."""
        UnrewardedShare(self.answers, len(self.sums)).check(most, reasons(self.sums))

    def warning(self) -> str:
        """Describe how many answers lack each reward, with the first reason; "" if none is missing."""
        if not self.silent:
            return ""
        ordered = sorted(self.silent.items(), key=lambda told: -len(told[1]))
        told = [f"{name} for {len(why)}, as {why[0]}" for name, why in ordered[:_SHOWN]]
        more = [f"and {len(ordered) - _SHOWN} more"] if len(ordered) > _SHOWN else []
        return (
            f"rollout of step {self.step}: {len(self.sums)} of {self.answers} answers do not count; no "
            f"reward of {'; '.join([*told, *more])}"
        )
