"""What keys and values of sequences that a model goes on from take of memory."""

from __future__ import annotations

from footplate_planning.shape import ModelShape


def key_value_bytes(shape: ModelShape, tokens: int, number_bytes: int) -> int:
    """Of `tokens` tokens: 2 · layers · key/value heads · head size numbers of `number_bytes` each."""
    return 2 * shape.layers * shape.key_value_heads * shape.head_size * number_bytes * tokens


def blocks_within(shape: ModelShape, room: int, block_size: int, number_bytes: int) -> int:
    """How many blocks of `block_size` tokens lie in `room` bytes."""
    return room // key_value_bytes(shape, block_size, number_bytes)
