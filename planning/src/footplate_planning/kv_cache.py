"""Memory of the key/value cache, for sequences that a model generates."""

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
    """Return the bytes of `tokens` tokens, of 2 · layers · key/value heads · head size numbers each."""
    return 2 * shape.layers * shape.key_value_heads * shape.head_size * number_bytes * tokens


def local_key_value_heads(shape: ModelShape, tensor: int) -> int:
    """Return the key/value heads that one of `tensor` ranks holds; one, if heads are fewer than ranks."""
    return max(1, shape.key_value_heads // tensor)


def rank_key_value_bytes(shape: ModelShape, topology: Topology, tokens: int, number_bytes: int) -> list[int]:
    """Return the bytes of `tokens` tokens on a rank of each pipeline stage: of its layers and its heads."""
    of_layer = 2 * local_key_value_heads(shape, topology.tensor) * shape.head_size * number_bytes * tokens
    return [of_layer * len(layers) for layers in stage_layers(shape, topology)]


def blocks_within(
    shape: ModelShape, room: int, block_size: int, number_bytes: int, topology: Topology | None = None
) -> int:
    """Return the blocks of `block_size` tokens that each rank of a copy can hold in `room` bytes."""
    return room // max(rank_key_value_bytes(shape, topology or Topology(), block_size, number_bytes))


def answer_blocks(lengths: Iterable[int], block_size: int) -> int:
    """Return the blocks that hold sequences of `lengths` tokens at once, if they share none."""
    return sum(-(-length // block_size) for length in lengths)


def cache_blocks(answers: int, longest: int, cache_tokens: int | None, most: int | None = None) -> int:
    """Return the blocks of a rollout, for the answers in flight at once, each of `longest` tokens.

    Fewer where `cache_tokens` (of the spec) is lower, or else where memory has room for `most`; one answer
    has room in any case.
    """
    one = -(-longest // BLOCK_SIZE)
    blocks = min(answers, AT_ONCE) * one
    if cache_tokens is not None:
        return min(blocks, -(-max(cache_tokens, longest) // BLOCK_SIZE))
    return blocks if most is None else max(one, min(blocks, most))


def available_blocks(shape: ModelShape, topology: Topology, number_bytes: int, free: int, device: str) -> int:
    """Return the blocks of a copy whose ranks each have `free` bytes left on their `device`."""
    room = int(CACHE_SHARE[device] * free)
    return blocks_within(shape, room, BLOCK_SIZE, number_bytes, topology)


def memory_shortage(
    shape: ModelShape,
    topology: Topology,
    number_bytes: int,
    free: int,
    longest: int,
    *,
    at_most: bool = False,
) -> str | None:
    """Return why `free` bytes on a rank cannot hold an answer of `longest` tokens with its prompt, else None.

    `at_most`: `free` is an upper bound, before other programs take memory.
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
