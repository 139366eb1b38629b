"""What keys and values of sequences that a model goes on from take of memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology, stage_layers

BLOCK_SIZE: Final = 16  # tokens whose keys and values lie together
AT_ONCE: Final = 64  # answers that a copy of a network has under way
# Of what a device has left while it generates; the rest is for what a pass computes. A CPU's is of all
# programs in the container, and what is left of it changes.
CACHE_SHARE: Final[Mapping[str, float]] = {"cuda": 0.9, "cpu": 0.5}


def key_value_bytes(shape: ModelShape, tokens: int, number_bytes: int) -> int:
    """Of `tokens` tokens: 2 · layers · key/value heads · head size numbers of `number_bytes` each."""
    return 2 * shape.layers * shape.key_value_heads * shape.head_size * number_bytes * tokens


def heads_here(shape: ModelShape, tensor: int) -> int:
    """Key/value heads whose keys one of `tensor` ranks keeps; one, where there are fewer heads than ranks."""
    return max(1, shape.key_value_heads // tensor)


def rank_key_value_bytes(shape: ModelShape, topology: Topology, tokens: int, number_bytes: int) -> list[int]:
    """What `tokens` tokens take on a rank of each pipeline stage: its layers', of its heads."""
    of_layer = 2 * heads_here(shape, topology.tensor) * shape.head_size * number_bytes * tokens
    return [of_layer * len(layers) for layers in stage_layers(shape, topology)]


def blocks_within(
    shape: ModelShape, room: int, block_size: int, number_bytes: int, topology: Topology | None = None
) -> int:
    """How many blocks of `block_size` tokens each rank of a copy can hold in `room` bytes."""
    return room // max(rank_key_value_bytes(shape, topology or Topology(), block_size, number_bytes))


def answer_blocks(lengths: Iterable[int], block_size: int) -> int:
    """How many blocks hold sequences of `lengths` tokens at once, if they share none."""
    return sum(-(-length // block_size) for length in lengths)


def cache_blocks(answers: int, longest: int, cache_tokens: int | None, most: int | None = None) -> int:
    """The blocks of a rollout: for as many of its `answers` as are under way, each of `longest` tokens.

    Fewer where `cache_tokens` (of the spec) says so, or else where memory has room for `most`; one answer
    has room in any case.
    """
    one = -(-longest // BLOCK_SIZE)
    blocks = min(answers, AT_ONCE) * one
    if cache_tokens is not None:
        return min(blocks, -(-max(cache_tokens, longest) // BLOCK_SIZE))
    return blocks if most is None else max(one, min(blocks, most))


def blocks_of_room(shape: ModelShape, topology: Topology, number_bytes: int, free: int, device: str) -> int:
    """How many blocks a copy has where each of its ranks has `free` bytes left on its `device`."""
    room = int(CACHE_SHARE[device] * free)
    return blocks_within(shape, room, BLOCK_SIZE, number_bytes, topology)


def too_small(
    shape: ModelShape,
    topology: Topology,
    number_bytes: int,
    free: int,
    longest: int,
    *,
    at_most: bool = False,
) -> str | None:
    """Why `free` bytes on a rank hold no answer that has `longest` tokens with its prompt; None: they do.

    `at_most`: there never are more, whoever else takes memory.
    """
    tokens = BLOCK_SIZE * -(-longest // BLOCK_SIZE)
    needed = max(rank_key_value_bytes(shape, topology, tokens, number_bytes))
    if needed <= free:
        return None
    has = f"can have at most {max(free, 0):,}" if at_most else f"has {max(free, 0):,} left"
    return (
        f"rollout: keys and values of one answer, {longest:,} tokens with its prompt, take {needed:,} bytes "
        f"on a rank, which {has}; lower rollout.maxTokens or model.contextLength, raise "
        "rollout.parallelism, or give each rank more memory"
    )
