"""What a row shows of a rollout, of answers that have rewards and of those that have none."""

from __future__ import annotations

import numpy as np
import pytest

from footplate_contracts.samples import LoggedSample, SampleEnd
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.reward_samples import Outcome, RolloutSample, SampleKey, Unrewarded
from footplate_trainer.rollout.advantages import compute_advantages
from footplate_trainer.rollout.journal_records import CollectedRollout, RolloutState, SampleRecord
from footplate_trainer.rollout.row_samples import count_generated_tokens, select_shown_samples
from tests.unit.footplate_trainer.rollout.test_learning import NONE, SETTINGS

KEYS = [SampleKey(4, prompt, sibling) for prompt in (7, 9) for sibling in (0, 1)]


def record(key: SampleKey) -> SampleRecord:
    zeros = np.zeros(3, dtype=np.float32)
    return SampleRecord(key, zeros.astype(np.int32), zeros, zeros, EndReason.LENGTH)


def text_of(sample: SampleRecord) -> RolloutSample:
    key = sample.key
    return RolloutSample(key, f"prompt {key.prompt}", [1], f"answer {key.sibling}", [1, 2, 3], "length")


def gathered(sums: list[Outcome], drawn: int = 4) -> CollectedRollout:
    kept = RolloutState(
        samples={key: record(key) for key in KEYS},
        rewards={
            key: {"right": told.reason if isinstance(told, Unrewarded) else told, "a name": 1.0}
            for key, told in zip(KEYS, sums, strict=True)
        },
    )
    return CollectedRollout(4, 7, 2, [7, 9], drawn, kept, dict(zip(KEYS, sums, strict=True)))


def found(sums: list[Outcome]) -> list[LoggedSample]:
    rollout = gathered(sums)
    samples = [[record(key) for key in KEYS[:2]], [record(key) for key in KEYS[2:]]]
    learning = compute_advantages(
        SETTINGS, samples, [sums[:2], sums[2:]], [{"right": told} for told in sums], asked=2
    )
    return select_shown_samples(5, KEYS, rollout, learning, text_of, lambda place: place % 4)


def test_the_best_answer_comes_first_with_what_it_was_worth() -> None:
    first, *rest = found([0.0, 1.0, 0.25, 0.5])
    assert first == LoggedSample(
        prompt=3,
        sibling=1,
        prompt_text="prompt 7",
        answer_text="answer 1",
        tokens=3,
        end=SampleEnd.LENGTH,
        rewards={"right": 1.0},
        reward=1.0,
        advantage=0.5,
    )
    assert [sample.reward for sample in rest] == [0.5, 0.0, 0.25]


def test_an_answer_without_reward_is_shown_without_one() -> None:
    *_, last = found([0.0, NONE, 0.25, 0.5])
    assert (last.prompt, last.sibling, last.reward, last.rewards) == (3, 1, None, {})


@pytest.mark.parametrize(("drawn", "tokens"), [(4, 12), (3, None), (0, None)])
def test_how_many_tokens_were_drawn_is_known_where_all_were_drawn_now(drawn: int, tokens: int | None) -> None:
    assert count_generated_tokens(gathered([0.0, 1.0, 0.25, 0.5], drawn)) == tokens
