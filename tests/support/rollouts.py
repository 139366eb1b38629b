"""Answers and weights of one model in several layouts of a rollout, as ranks together have them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.rollout import RolloutParallelism
from footplate_planning.config import model_shape
from footplate_planning.placement import placements
from footplate_planning.reshard import ReshardPlan
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.forward_passes import EngineLimits
from footplate_trainer.generation.requests import (
    GeneratedAnswer,
    GenerationRequest,
    StopRule,
    partition_requests,
)
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.model.initialize import normal_rows
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.parallel_model import ParallelModel, build_model
from footplate_trainer.parallel.rollout_model import RolloutLayout, RolloutModel
from footplate_trainer.parallel.stage_module import StageModules
from footplate_trainer.parallel.world import DistributedContext, init_distributed, read_environment
from tests.support.layout_list import Layout
from tests.support.layouts import Pieces, joined
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config

ROOM = EngineLimits(blocks=40, block_size=4, at_once=6, prompt_tokens=7)
RULE = SamplingRule(repetition_penalty=1.1, temperature=0.9, top_k=50, top_p=0.95)
_WIDE = ("model.layers=4", "training.microBatchSize=1", "model.initialization.standardDeviation=0.2")


@dataclass(frozen=True)
class Rolled:
    """A rollout of one layout."""

    weights: dict[str, str]  # SHA-256 of each whole tensor
    answers: list[GeneratedAnswer]  # by prompt and sibling
    received: list[int]  # bytes, by rank
    planned: list[int]


def rolled(layout: Layout, asked: Sequence[tuple[int, int]], shards: Path, folder: Path) -> list[Rolled]:
    """A model that trains as `layout`, rolled out by each of the (tensor, pipeline) of `asked`."""
    config = tiny_config(shards, folder, (*_WIDE, *layout.overrides))
    by_rank = run_ranks(_roll, layout.ranks, config, asked, timeout=300.0)
    return [
        Rolled(
            {name: _digest(whole) for name, whole in joined([rank[number][0] for rank in by_rank]).items()},
            sorted(
                (answer for rank in by_rank for answer in rank[number][1]),
                key=lambda answer: (answer.request.prompt, answer.request.sibling),
            ),
            [rank[number][2] for rank in by_rank],
            [rank[number][3] for rank in by_rank],
        )
        for number in range(len(asked))
    ]


def requests() -> list[GenerationRequest]:
    """Two answers to each of six prompts of 1 to 12 tokens, some of which begin alike."""
    system = [7, 8, 9, 10, 11]
    prompts = [[*system, 1, 2], [*system, 1, 2, 3], [5], [*system, *range(20, 27)], [30, 31, 32], system]
    return [
        GenerationRequest(prompt, sibling, tokens, most=4 + prompt)
        for prompt, tokens in enumerate(prompts)
        for sibling in range(2)
    ]


@contextmanager
def opened(config: RunConfig) -> Iterator[tuple[ParallelModel, DistributedContext]]:
    """As one rank: a model whose adapters, if it has any, are not nothing."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        model = build_model(config, world)
        for name, parameter in model.module.named_parameters():
            if name.endswith("adapter.b"):
                shard = local_shard(parameter)
                rows = normal_rows(3, name, shard.start[0], *shard.local.shape, standard_deviation=0.2)
                shard.local.copy_(rows)
        yield model, world


def rollout_ranks(
    config: RunConfig,
    model: ParallelModel,
    world: DistributedContext,
    degrees: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> RolloutLayout:
    """A rollout by (tensor, pipeline)."""
    parallelism = RolloutParallelism(tensor=degrees[0], pipeline=degrees[1])
    return RolloutLayout(model_shape(config), model.grid.topology, parallelism, world, dtype)


def _roll(
    config: RunConfig, asked: Sequence[tuple[int, int]]
) -> list[tuple[Pieces, list[GeneratedAnswer], int, int]]:
    """One rank: what it holds of each rollout, and the answers that it hands on."""
    found = []
    with opened(config) as (model, world):
        before = _trained(model.module)
        for degrees in asked:
            ranks = rollout_ranks(config, model, world, degrees)
            plan = ReshardPlan.of(model_shape(config), model.grid.topology, ranks.copy.grid.topology, 4)
            with ranks.laid_out_model(model.module) as rollout:
                held = _held(rollout)
                mine = partition_requests(requests(), ranks.replica_count)[ranks.copy.number]
                engine = Engine(rollout, ROOM, RULE, StopRule(frozenset((3, 50))), seed=4)
                answers = list(engine.answers(mine))
            assert not list(rollout.network.parameters()), "the rollout's memory comes back"
            assert _trained(model.module) == before, "and the weights that train are what they were"
            found.append(
                (
                    held,
                    answers if ranks.copy.is_leader else [],
                    ranks.received_bytes,
                    plan.received_bytes(world.rank),
                )
            )
    return found


def stopped(layout: Layout, degrees: tuple[int, int], shards: Path, folder: Path) -> list[list[int]]:
    """By rank: after how many answers an engine stopped that its drawing rank asked to, and how many came."""
    config = tiny_config(shards, folder, (*_WIDE, *layout.overrides))
    return run_ranks(_stop, layout.ranks, config, degrees)


def _stop(config: RunConfig, degrees: tuple[int, int]) -> list[int]:
    """One rank; the request to stop reaches only the one that draws, in its twelfth pass."""
    with opened(config) as (model, world):
        ranks, passes = rollout_ranks(config, model, world, degrees), iter(range(1000))
        with ranks.laid_out_model(model.module) as rollout:
            engine = Engine(rollout, ROOM, RULE, StopRule(), seed=4)
            first = list(engine.answers(requests(), lambda: ranks.copy.is_leader and next(passes) == 11))
            assert engine.stopped
            return [len(first), len(first) + len(list(engine.answers()))]


def _held(rollout: RolloutModel) -> Pieces:
    grid, parts = rollout.copy.grid, dict(rollout.network.named_parameters())
    placed = {place.name: place for place in placements(rollout.shape, grid.topology)}
    assert parts.keys() == {name for name, place in placed.items() if grid.rank in place.boxes}
    return {
        name: (placed[name].shape, placed[name].boxes[grid.rank].start, part.numpy(force=True).copy())
        for name, part in parts.items()
    }


def _trained(module: StageModules) -> dict[str, str]:
    return {name: _digest(local_shard(parameter).local) for name, parameter in module.named_parameters()}


def _digest(tensor: torch.Tensor) -> str:
    return sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def alone(layout: Layout, shards: Path, folder: Path) -> Rolled:
    """The same model in one process."""
    return rolled(Layout("alone", 1, {}, layout.model), [(1, 1)], shards, folder)[0]
