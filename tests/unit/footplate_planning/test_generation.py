"""The memory of keys and values, against numbers that are known."""

from __future__ import annotations

import pytest

from footplate_planning.kv_cache import (
    BLOCK_SIZE,
    available_blocks,
    blocks_within,
    cache_blocks,
    key_value_bytes,
    memory_shortage,
    rank_key_value_bytes,
)
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology

LLAMA_3_8B = ModelShape(32, 4096, 14336, 32, 8, 128, 128_256, 8192)
GPT_3 = ModelShape(96, 12288, 49152, 96, 96, 128, 50257, 2048)


def test_a_token_takes_what_is_said_of_it() -> None:
    assert key_value_bytes(LLAMA_3_8B, 1, 2) == 128 * 2**10
    assert key_value_bytes(GPT_3, 1, 2) == 4.5 * 2**20


def test_blocks_are_whole() -> None:
    block = key_value_bytes(LLAMA_3_8B, 16, 2)
    assert [blocks_within(LLAMA_3_8B, room, 16, 2) for room in (block - 1, block, 3 * block + 1)] == [0, 1, 3]


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        pytest.param(Topology(), [128 * 2**10], id="one"),
        pytest.param(Topology(data=3, tensor=2), [64 * 2**10], id="tensor"),
        pytest.param(Topology(tensor=16), [16 * 2**10], id="more-ranks-than-heads"),
        pytest.param(Topology(tensor=2, pipeline=2), [34 * 2**10, 30 * 2**10], id="a-head-is-two-layers"),
        pytest.param(Topology(pipeline=3), [44 * 2**10, 44 * 2**10, 40 * 2**10], id="uneven-stages"),
    ],
)
def test_a_rank_keeps_what_its_layers_and_its_heads_have(topology: Topology, expected: list[int]) -> None:
    assert rank_key_value_bytes(LLAMA_3_8B, topology, 1, 2) == expected


def test_the_stage_with_most_layers_says_how_many_blocks_there_are() -> None:
    room = 10 * 16 * 44 * 2**10
    assert blocks_within(LLAMA_3_8B, room, 16, 2, Topology(pipeline=3)) == 10


@pytest.mark.parametrize(
    ("cache_tokens", "most", "expected"),
    [
        pytest.param(None, None, 40, id="all-answers"),
        pytest.param(None, 100, 40, id="more-room-than-answers-need"),
        pytest.param(None, 17, 17, id="what-memory-has-room-for"),
        pytest.param(None, 2, 10, id="one-answer-in-any-case"),
        pytest.param(320, 17, 20, id="as-the-spec-says"),
    ],
)
def test_a_rollout_has_room_for_its_answers_or_for_what_fits(
    cache_tokens: int | None, most: int | None, expected: int
) -> None:
    assert cache_blocks(4, 160, cache_tokens, most) == expected


@pytest.mark.parametrize(("device", "share"), [("cuda", 0.9), ("cpu", 0.5)])
def test_a_share_of_what_is_left_holds_keys(device: str, share: float) -> None:
    block = key_value_bytes(LLAMA_3_8B, BLOCK_SIZE, 2)
    assert available_blocks(LLAMA_3_8B, Topology(), 2, 1000 * block, device) == 1000 * share


def test_an_answer_that_fits_on_no_rank_is_told_with_both_numbers() -> None:
    block = key_value_bytes(LLAMA_3_8B, BLOCK_SIZE, 2)
    assert memory_shortage(LLAMA_3_8B, Topology(), 2, 2 * block, longest=32) is None
    told = memory_shortage(LLAMA_3_8B, Topology(), 2, 2 * block, longest=33)
    assert told is not None and f"{3 * block:,} bytes" in told and f"{2 * block:,} left" in told
    assert memory_shortage(LLAMA_3_8B, Topology(tensor=2), 2, 2 * block, longest=33) is None
