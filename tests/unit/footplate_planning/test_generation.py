"""The memory of keys and values, against numbers that are known."""

from __future__ import annotations

from footplate_planning.generation import blocks_within, key_value_bytes
from footplate_planning.shape import ModelShape

LLAMA_3_8B = ModelShape(32, 4096, 14336, 32, 8, 128, 128_256, 8192)
GPT_3 = ModelShape(96, 12288, 49152, 96, 96, 128, 50257, 2048)


def test_a_token_takes_what_is_said_of_it() -> None:
    assert key_value_bytes(LLAMA_3_8B, 1, 2) == 128 * 2**10
    assert key_value_bytes(GPT_3, 1, 2) == 4.5 * 2**20


def test_blocks_are_whole() -> None:
    block = key_value_bytes(LLAMA_3_8B, 16, 2)
    assert [blocks_within(LLAMA_3_8B, room, 16, 2) for room in (block - 1, block, 3 * block + 1)] == [0, 1, 3]
