"""However little memory is left for keys, answers are the same; where it is too little, all ranks say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.runconfig import RunConfig
from footplate_planning.config import model_shape
from footplate_planning.kv_cache import BLOCK_SIZE, CACHE_SHARE, key_value_bytes
from footplate_trainer.errors import TrainerError, TransientOutOfMemory, UserMistake
from footplate_trainer.generation.requests import GenerationRequest, StopRule
from footplate_trainer.parallel.device_memory import AvailableMemory
from footplate_trainer.rollout.answer_sampler import EngineSampler
from footplate_trainer.rollout.settings import RolloutSettings
from tests.support.ranks import run_ranks
from tests.support.reinforced import GRPO
from tests.support.rollouts import opened
from tests.support.tiny import tiny_config

MOST = 40  # tokens of an answer
REQUESTS = [GenerationRequest(prompt, 0, [prompt + 1] * 8, MOST) for prompt in range(6)]
PLENTY = AvailableMemory(2**40, 2**40)

Answers = tuple[list[tuple[int, list[int]]], int]
"""By prompt, and after how many passes all were there."""


def blocks(config: RunConfig, count: int) -> AvailableMemory:
    """Memory of which the share for keys and values are `count` blocks, and some."""
    block = key_value_bytes(model_shape(config), BLOCK_SIZE, 4)
    left = int((count + 0.5) * block / CACHE_SHARE["cpu"])
    return AvailableMemory(left, left)


def sample(config: RunConfig, memory: tuple[AvailableMemory, ...]) -> Answers | TrainerError:
    """As one rank of several, each with so much memory: its copy's answers, or why there are none."""
    with opened(config) as (model, world):
        settings = RolloutSettings.of(config)
        sampler = EngineSampler(config, settings, model, world, StopRule(), lambda: memory[world.rank])
        passes: list[int] = []

        def between(drawn: int) -> bool:
            passes.append(drawn)
            return False

        mine = REQUESTS[sampler.replica_index :: sampler.replica_count]
        try:
            with sampler.open_generator(0) as draw:
                found = [(answer.request.prompt, answer.tokens) for answer in draw(mine, between)]
        except TrainerError as error:
            return error
        return sorted(found), len(passes)


@pytest.fixture(scope="module")
def config(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return tiny_config(shards, tmp_path_factory.mktemp("room"), GRPO)


def test_the_rank_that_has_least_left_decides_and_no_token_is_another_one(config: RunConfig) -> None:
    expected = run_ranks(sample, 2, config, (PLENTY, PLENTY))
    assert [(len(answers), passes) for answers, passes in expected] == [(3, MOST)] * 2
    # An answer takes three blocks: with four of them hardly more than one is under way.
    tight = run_ranks(sample, 2, config, (PLENTY, blocks(config, 4)))
    assert [answers for answers, _ in tight] == [answers for answers, _ in expected]
    assert all(passes > 2 * MOST for _, passes in tight)


@pytest.mark.parametrize(
    ("could", "error", "has", "told"),
    [
        pytest.param(
            3, UserMistake, "can have at most", "lower rollout.maxTokens", id="the-device-is-too-small"
        ),
        pytest.param(4, TransientOutOfMemory, "has", "others use it", id="somebody-else-has-it"),
    ],
)
def test_all_ranks_refuse_where_one_has_no_room_for_an_answer(
    could: int, error: type[TrainerError], has: str, told: str, config: RunConfig
) -> None:
    block = key_value_bytes(model_shape(config), BLOCK_SIZE, 4)
    short = AvailableMemory(3 * block - 1, could * block - 1)
    first, second = run_ranks(sample, 2, config, (short, PLENTY))
    assert (type(first), type(second)) == (error, error) and str(first) == str(second)
    needs = f"48 tokens with its prompt, take {3 * block:,} bytes on a rank"
    assert f"{needs}, which {has} {short.left:,}" in str(first) and told in str(first)
