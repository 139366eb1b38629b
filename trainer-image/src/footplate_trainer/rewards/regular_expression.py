"""Whether a regular expression is found in an answer. One that takes for ever is the caller's to end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from footplate_trainer.errors import UserMistake
from footplate_trainer.rewards.judges import Judge, SampleJson


def judge(set_up: Mapping[str, Any]) -> Judge:
    """1 where `pattern` is found, or, if `whole`, matches all; UserMistake for what is no pattern."""
    try:
        pattern = re.compile(set_up["pattern"])
    except (re.error, RecursionError, OverflowError) as error:
        raise UserMistake(
            f"{set_up['field']} {set_up['pattern']} is no regular expression: {error}"
        ) from error
    find = pattern.fullmatch if set_up["whole"] else pattern.search

    def judged(samples: Sequence[SampleJson]) -> list[float]:
        return [float(find(sample["answer"]) is not None) for sample in samples]

    return judged
