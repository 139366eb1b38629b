"""Samples of a rollout and their rewards: the types shared by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class SampleKey(NamedTuple):
    """The identity of an answer in a run; nothing else distinguishes samples."""

    step: int
    prompt: int
    sibling: int

    def __str__(self) -> str:
        return f"answer {self.sibling} to prompt {self.prompt} at step {self.step}"


@dataclass(frozen=True)
class RolloutSample:
    """An answer with all the data that a reward may use."""

    key: SampleKey
    prompt: str  # as the model was given it: a conversation, too, is one text there
    prompt_tokens: Sequence[int]
    answer: str
    tokens: Sequence[int]  # of the answer, its end among them
    end: str  # why the answer has no more tokens: a value of EndReason
    columns: Mapping[str, Any] = field(default_factory=dict)  # all that the prompt's row held

    @property
    def original_prompt(self) -> str | list[dict[str, Any]]:
        """The prompt in the shape of its row: messages, or a text."""
        asked: str | list[dict[str, Any]] = self.columns.get("prompt", self.prompt)
        return asked


@dataclass(frozen=True)
class Unrewarded:
    """A missing reward of a sample and its reason, which names the sample."""

    reason: str
    settled: bool = True  # it was answered so; another start may ask again where nothing was answered


Outcome = float | Unrewarded
"""What one reward says of one sample: a finite number within LARGEST of `answers`, or why there is none."""


@dataclass(frozen=True)
class RewardResult:
    """A result for the caller, who stores it: it is not requested again."""

    key: SampleKey
    reward: str  # its name in the spec
    outcome: Outcome
