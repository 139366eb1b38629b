"""By what a rollout's records are known again: what may change in a run, and what makes it ask anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.base import digest
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.rollout.journal_keys import (
    DRAWN_BY,
    JournalKeyBuilder,
    reward_function_digests,
    sampling_digest,
)
from tests.support.tiny import VOCABULARY, tiny_config

BASE = (
    "stage=grpo",
    "model.contextLength=128",
    "rollout={maxTokens: 24, numGenerations: 4}",
    "reward.functions=[{name: short, length: {tokens: 4}}, {name: right, number: {}}]",
)
ANOTHER_MARK = "[{name: short, length: {tokens: 4}}, {name: right, number: {delimiter: 'Answer:'}}]"
WEIGHED = "[{name: short, weight: 2, length: {tokens: 4}}, {name: right, timeoutSeconds: 9, number: {}}]"


def keys(
    *more: str,
    data: str = "prompts",
    ids: int = VOCABULARY,
    ends: frozenset[int] = frozenset({3}),
    behind: tuple[int, ...] = (),
) -> JournalKeyBuilder:
    config = complete_config(tiny_config(Path("shards"), Path("run"), (*BASE, *more)), None)
    return JournalKeyBuilder(
        sampling_digest(config, data, ids, ends, behind), reward_function_digests(config)
    )


@pytest.mark.parametrize(
    "change",
    [
        "training.steps=99",
        "training.optimizer={name: sgd, learningRate: 0.5}",
        "reinforcement={numIterations: 2, clip: {low: 0.1}}",
        "reward.maxMissingRewardRatio=0.5",
        "rollout.generationBatchSize=16",
        f"reward.functions={WEIGHED}",
        "parallelism={tensor: 2}",
        "reinforcement={kl: {coefficient: 0.1}, reference: {uri: /elsewhere}}",
    ],
)
def test_what_draws_and_rewards_nothing_may_change(change: str) -> None:
    """What it does to later weights is in the checksums of those."""
    assert keys(change) == keys()


@pytest.mark.parametrize(
    "change",
    [
        "rollout.sampling.temperature=0.5",
        "rollout.maxTokens=25",
        "rollout.stop=[x]",
        "rollout.batchInvariant=true",
        "training.seed=8",
        "data.seed=8",
        "training.precision=bf16",
        "model.layers=3",
    ],
)
def test_other_answers_have_another_key(change: str) -> None:
    assert keys(change).drawn != keys().drawn


def test_ids_that_are_never_drawn_are_in_the_key_of_answers() -> None:
    assert len({keys(ids=ids).drawn for ids in (VOCABULARY - 2, VOCABULARY - 1, VOCABULARY)}) == 3


def test_prompts_ends_and_weights_are_in_the_key_of_answers() -> None:
    found = [keys(), keys(data="others"), keys(ends=frozenset({3, 4}))]
    assert len({known.drawn for known in found}) == 3
    assert keys().build({DRAWN_BY: "a"}).answers != keys().build({DRAWN_BY: "b"}).answers


def test_what_a_reward_model_reads_behind_answers_is_in_their_key() -> None:
    """It leaves them less room; where none reads there, they have all of it."""
    judged = "reward.uri=/judge"
    assert len({keys(judged, behind=behind).drawn for behind in [(), (3,), (3, 10)]}) == 3
    assert keys(behind=(3, 10)) == keys()
    assert keys(judged).drawn != keys().drawn


def test_a_function_that_is_defined_anew_is_another_reward() -> None:
    before, now = keys(), keys(f"reward.functions={ANOTHER_MARK}")
    assert now.drawn == before.drawn, "the answers are what they were"
    assert now.said["rewards/short"] == before.said["rewards/short"]
    assert now.said["rewards/right"] != before.said["rewards/right"]


def test_rewards_of_answers_with_their_stop_texts_in_them_are_others() -> None:
    """Where nothing stops an answer, rewards of an earlier release stay what they are."""
    before, now = keys(), keys("rollout.stop=['###']")
    assert now.said["rewards/right"] != before.said["rewards/right"]
    assert now.said["rewards/short"] == before.said["rewards/short"], "it counts tokens"
    right = {"name": "right", "number": {"delimiter": "####"}, "column": "answer"}
    assert before.said["rewards/right"] == digest([right, None])


def test_values_are_of_the_weights_that_a_rollout_began_with() -> None:
    one, other = (keys().build({DRAWN_BY: "a", "value": value}) for value in ("b", "c"))
    assert one.answers == other.answers
    assert one.differing(other.said) == {"scores/value"}
