"""Reward for an answer in which a regular expression matches. The caller ends a match that takes too long."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from footplate_trainer.errors import UserMistake
from footplate_trainer.rewards.scorers import SampleJson, Scorer


def build_scorer(set_up: Mapping[str, Any]) -> Scorer:
    """Return a scorer: 1 if `pattern` is found or, with `fullMatch`, matches all, else 0.

    UserMistake if it is no pattern.
    """
    try:
        pattern = re.compile(set_up["pattern"])
    except (re.error, RecursionError, OverflowError) as error:
        raise UserMistake(
            f"{set_up['field']} {set_up['pattern']} is no regular expression: {error}"
        ) from error
    find = pattern.fullmatch if set_up["fullMatch"] else pattern.search

    def score(samples: Sequence[SampleJson]) -> list[float]:
        return [float(find(sample["answer"]) is not None) for sample in samples]

    return score
