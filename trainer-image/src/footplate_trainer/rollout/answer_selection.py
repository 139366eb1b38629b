"""Selection of the answers to a prompt that a data set stores, with reasons for dropping others: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey, Unrewarded
from footplate_trainer.rollout.journal_records import SampleRecord

UNENDED: Final = "cut off at rollout.maxTokens, or at the end of the context"
UNCLOSED: Final = "no token, or no room, for the end of its turn"
UNREWARDED: Final = "no reward"
WORSE: Final = "not among the best"


@dataclass(frozen=True)
class SelectedAnswers:
    """Selected and dropped answers to one prompt."""

    answers: list[SampleRecord]  # in the order of siblings
    dropped: Counter[str]  # by reason


def select_answers(
    group: Sequence[SampleRecord], sums: Mapping[SampleKey, Outcome], best: int | None, closed: int
) -> SelectedAnswers:
    """Select from a `group` the answers that have an end and, if `best` is given, the `best` highest sums.

    An answer that was cut off would teach to go on without an end; so would an answer ended by a stop text,
    unless it has at most `closed` tokens, after which there is a token, and room, to end its turn. Among
    equal sums the first sibling is selected.
    """
    dropped: Counter[str] = Counter()
    stopped = [answer for answer in group if answer.reason is not EndReason.LENGTH]
    dropped[UNENDED] += len(group) - len(stopped)
    ended = [
        answer for answer in stopped if not is_ended_by_stop_text(answer) or len(answer.tokens) <= closed
    ]
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
    return SelectedAnswers(ended, +dropped)


def is_ended_by_stop_text(answer: SampleRecord) -> bool:
    """Return whether a stop text ended the answer, so that it lacks the token that ends a turn."""
    return answer.reason is EndReason.STOP
