"""Which answers to a prompt stay, and which prompts each rollout asks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.reward_samples import Outcome, SampleKey, Unrewarded
from footplate_trainer.rollout.groups import split_into_rollouts
from footplate_trainer.rollout.journal_records import SampleRecord
from footplate_trainer.rollout.output import UNCLOSED, UNENDED, UNREWARDED, WORSE, select_answers

END, STOP, LENGTH = EndReason.END, EndReason.STOP, EndReason.LENGTH


def answer(sibling: int, reason: EndReason, tokens: int = 0) -> SampleRecord:
    chances = np.zeros(tokens, dtype=np.float32)
    drawn = np.zeros(tokens, dtype=np.int32)
    return SampleRecord(SampleKey(0, 5, sibling), drawn, chances, chances, reason)


@pytest.mark.parametrize(
    ("reasons", "sums", "best", "stay", "dropped"),
    [
        pytest.param([END, STOP], [1.0, 2.0], None, [0, 1], {}, id="all"),
        pytest.param([END, LENGTH, STOP], [1.0, 9.0, 2.0], None, [0, 2], {UNENDED: 1}, id="without-end"),
        pytest.param([END] * 4, [1.0, 3.0, 2.0, 4.0], 2, [1, 3], {WORSE: 2}, id="best-in-order-of-siblings"),
        pytest.param([END] * 3, [2.0, 1.0, 2.0], 1, [0], {WORSE: 2}, id="first-of-equals"),
        pytest.param([LENGTH, END], [9.0, 1.0], 1, [1], {UNENDED: 1}, id="best-of-what-ended"),
        pytest.param([END] * 2, [Unrewarded("late"), -1.0], 2, [1], {UNREWARDED: 1}, id="unrewarded"),
        pytest.param([END] * 2, [Unrewarded("late"), -1.0], None, [0, 1], {}, id="all-with-unrewarded"),
        pytest.param([LENGTH] * 2, [1.0, 1.0], 1, [], {UNENDED: 2}, id="none"),
    ],
)
def test_what_stays_of_a_group(
    reasons: Sequence[EndReason],
    sums: Sequence[Outcome],
    best: int | None,
    stay: list[int],
    dropped: dict[str, int],
) -> None:
    group = [answer(sibling, reason) for sibling, reason in enumerate(reasons)]
    told = {found.key: value for found, value in zip(group, sums, strict=True)}
    kept = select_answers(group, told, best, closed=9)
    assert [found.key.sibling for found in kept.answers] == stay
    assert dict(kept.dropped) == dropped


@pytest.mark.parametrize(
    ("reason", "tokens", "closed", "dropped"),
    [
        pytest.param(STOP, 3, 3, {}, id="room-for-the-end"),
        pytest.param(STOP, 4, 3, {UNCLOSED: 1}, id="no-room"),
        pytest.param(STOP, 0, -1, {UNCLOSED: 1}, id="a-full-context"),
        pytest.param(END, 4, 3, {}, id="has-its-own-end"),
        pytest.param(LENGTH, 4, 9, {UNENDED: 1}, id="cut-off"),
    ],
)
def test_what_a_text_stopped_stays_where_its_turn_can_end(
    reason: EndReason, tokens: int, closed: int, dropped: dict[str, int]
) -> None:
    found = answer(0, reason, tokens)
    assert select_answers([found], {found.key: 1.0}, None, closed).dropped == dropped


@pytest.mark.parametrize(
    ("prompts", "groups", "steps", "rollouts"),
    [
        pytest.param(10, 4, 3, [(0, 4), (4, 8), (8, 10)], id="an-epoch"),
        pytest.param(10, 4, 2, [(0, 4), (4, 8)], id="a-part"),
        pytest.param(8, 4, 2, [(0, 4), (4, 8)], id="without-remainder"),
        pytest.param(3, 4, 1, [(0, 3)], id="fewer-than-a-rollout"),
    ],
)
def test_each_prompt_is_asked_once(
    prompts: int, groups: int, steps: int, rollouts: list[tuple[int, int]]
) -> None:
    assert list(split_into_rollouts(prompts, groups, steps)) == [range(*bounds) for bounds in rollouts]


def test_more_rollouts_than_prompts_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"training\.steps 4 needs more rollouts than the prompts fill: 10, .* fill 3"
    ):
        split_into_rollouts(10, 4, 4)
