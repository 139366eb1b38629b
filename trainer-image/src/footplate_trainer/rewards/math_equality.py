"""Reward for an answer that equals its reference in mathematics, by math-verify.

math-verify's own timeouts are signals, which need the main thread and do not stop everything that loops. They
are off here: the caller ends the process.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from math_verify import parse, verify

from footplate_trainer.rewards.reward_values import NoReward, parse_reward, truncate
from footplate_trainer.rewards.scorers import SampleJson, Scorer, value_of

_DELIMITERS: Final = ("$", r"\(", r"\[", r"\boxed")


def build_scorer(set_up: Mapping[str, Any]) -> Scorer:
    """Return a scorer: 1 if the answer equals the value in `column`, else 0; Missing without a reference."""
    column = set_up["column"]
    # It says with each call that its bounds are off.
    logging.getLogger("math_verify").setLevel(logging.ERROR)

    def score(samples: Sequence[SampleJson]) -> list[object]:
        return [_equal(value_of(sample, column), sample["answer"]) for sample in samples]

    return score


def _equal(reference: object, answer: str) -> float | NoReward:
    gold = _gold(reference)
    if not gold:
        return NoReward(f"the reference answer {truncate(repr(reference))} has no mathematical expression")
    return float(verify(gold, parse(answer, parsing_timeout=None), timeout_seconds=None))


def _gold(reference: object) -> list[Any]:
    """Parse a reference: a number, or a text, which is all mathematics if it has no delimiters."""
    if not isinstance(reference, str):
        return [] if isinstance(parse_reward(reference), str) else _parsed(repr(reference))
    if any(delimiter in reference for delimiter in _DELIMITERS):
        return _parsed(reference)
    return _parsed(f"${reference}$") or _parsed(reference)


def _parsed(text: str) -> list[Any]:
    return list(parse(text, parsing_timeout=None))
