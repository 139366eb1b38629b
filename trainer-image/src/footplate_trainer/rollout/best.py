"""Which answers to a prompt stay in a data set, and why others do not: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.samples import Outcome, SampleKey, Unrewarded
from footplate_trainer.rollout.records import SampleRecord

UNENDED: Final = "cut off at rollout.maxTokens, or at the end of the context"
UNCLOSED: Final = "no token, or no room, for the end of its turn"
UNREWARDED: Final = "no reward"
WORSE: Final = "not among the best"


@dataclass(frozen=True)
class KeptAnswers:
    """Of the answers to one prompt."""

    answers: list[SampleRecord]  # in the order of siblings
    dropped: Counter[str]  # by reason


def kept_answers(
    group: Sequence[SampleRecord], sums: Mapping[SampleKey, Outcome], best: int | None, closed: int
) -> KeptAnswers:
    """What stays of a `group`: what has an end, and of that, where `best` is given, so many by their sums.

    An answer that was cut off would teach to go on without an end; so would one that a text stopped, unless
    it has at most `closed` tokens, behind which there is one, and room, to end its turn. Of equal sums the
    first sibling's stays.
    """
    dropped: Counter[str] = Counter()
    stopped = [answer for answer in group if answer.reason is not EndReason.LENGTH]
    dropped[UNENDED] += len(group) - len(stopped)
    ended = [answer for answer in stopped if not is_open(answer) or len(answer.tokens) <= closed]
    dropped[UNCLOSED] += len(stopped) - len(ended)
    if best is not None:
        rated = [
            (-told, answer.key.sibling, answer)
            for answer in ended
            if not isinstance(told := sums[answer.key], Unrewarded)
        ]
        dropped[UNREWARDED] += len(ended) - len(rated)
        chosen = sorted(rated, key=lambda entry: entry[:2])[:best]
        dropped[WORSE] += len(rated) - len(chosen)
        ended = sorted((answer for *_, answer in chosen), key=lambda answer: answer.key.sibling)
    return KeptAnswers(ended, +dropped)


def is_open(answer: SampleRecord) -> bool:
    """Whether a text stopped it, so that it lacks the token that ends a turn."""
    return answer.reason is EndReason.STOP
