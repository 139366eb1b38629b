"""Memory of generation on each rank, beside that of training. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from footplate_contracts.v1alpha1.rollout import Rollout
from footplate_planning.kv_cache import (
    BLOCK_SIZE,
    available_blocks,
    cache_blocks,
    memory_shortage,
    rank_key_value_bytes,
)
from footplate_planning.memory import local_counts
from footplate_planning.reshard import rollout_topology
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology


@dataclass(frozen=True)
class PlannedRollout:
    """Copies that generate, and bytes on a rank of each of their pipeline stages."""

    topology: Topology
    answers: int  # of one copy in one rollout, the copy that has most
    cache_tokens: int  # whose keys and values a copy holds
    weights: list[int]
    cache: list[int]
    short: str = ""  # why not even one answer fits that fills the context with its prompt


def plan_rollout(
    shape: ModelShape,
    rollout: Rollout,
    global_batch_size: int,
    ranks: int,
    number_bytes: int,
    device: str = "cuda",
    left: int | None = None,
) -> PlannedRollout:
    """Plan `rollout`, which `compatibility` allows, on `ranks` ranks; numbers take `number_bytes`.

    A rank has `left` bytes beside those that it always holds; None: enough. Prompts are unknown here: the
    plan assumes that each fills the context together with its answer.
    """
    topology = rollout_topology(ranks, rollout.parallelism)
    answers = -(-(rollout.generation_batch_size or global_batch_size) // topology.data)
    weights = [number_bytes * local_counts(shape, topology, stage).all for stage in range(topology.pipeline)]
    most, short = None, None
    if left is not None and rollout.cache_tokens is None:
        free = left - max(weights)
        most = available_blocks(shape, topology, number_bytes, free, device)
        short = memory_shortage(shape, topology, number_bytes, free, shape.context)
    tokens = BLOCK_SIZE * cache_blocks(answers, shape.context, rollout.cache_tokens, most)
    cache = rank_key_value_bytes(shape, topology, tokens, number_bytes)
    return PlannedRollout(topology, answers, tokens, weights, cache, short or "")
