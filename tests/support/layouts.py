"""Layouts of a tiny run, and how far each is from the same run in one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.huggingface.load import load_initial
from footplate_trainer.loop.stepper import StepFlags, Stepper, StepResult
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.parallel_model import ParallelModel, build_model
from footplate_trainer.parallel.stage_module import StageModules
from footplate_trainer.parallel.world import DistributedContext, init_distributed, read_environment
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.losses import objective_of
from footplate_trainer.stages.reference import StageReference
from footplate_trainer.stages.start import StartPosition
from tests.support.layout_list import STEPS, Layout
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config

Pieces = dict[str, tuple[tuple[int, ...], tuple[int, ...], Any]]
"""By name: the shape of the whole parameter, where this rank's piece starts, and its values."""


@dataclass(frozen=True)
class Trained:
    """A run as all ranks together saw it."""

    results: list[StepResult]
    parameters: dict[str, torch.Tensor]  # whole ones, after the last step


@dataclass(frozen=True)
class Distance:
    """How far a run is from another: largest relative differences."""

    loss: float
    norm: float
    parameters: float
    fall: float  # of the loss, in the reference

    @property
    def is_small(self) -> bool:
        """Whether the two are the same run."""
        return self.loss <= 3e-6 and self.norm <= 1e-5 and self.parameters <= 1e-5 and self.fall >= 0.05


@dataclass(frozen=True)
class Learning:
    """What is learnt, and from what; its functions are importable."""

    objective: Callable[[RunConfig], Objective]
    loader: Callable[[RunConfig, DistributedContext, Grid], BatchLoader]
    against: Callable[[RunConfig, ParallelModel, DistributedContext], StageReference] | None = None


def _shards(config: RunConfig, world: DistributedContext, grid: Grid) -> BatchLoader:
    return open_loader(config, open_shards(config, world, verify=False), grid)


def _reference(config: RunConfig, model: ParallelModel, world: DistributedContext) -> StageReference:
    return StageReference(config, model, StartPosition(), open_shards(config, world, verify=False), world)


AS_CONFIGURED = Learning(objective_of, _shards, _reference)


def config_of(layout: Layout, optimizer: Sequence[str], shards: Path, folder: Path) -> RunConfig:
    """A tiny run of `layout` of five steps."""
    base = ("model.layers=4", "training.microBatchSize=1", f"training.steps={STEPS}")
    return tiny_config(shards, folder, (*base, *layout.beside(optimizer)))


def train(
    layout: Layout,
    optimizer: Sequence[str],
    shards: Path,
    folder: Path,
    learning: Learning = AS_CONFIGURED,
) -> Trained:
    """Train `layout` for five steps and put its parameters together."""
    config = config_of(layout, optimizer, shards, folder)
    answers = run_ranks(_train, layout.ranks, config, learning, timeout=300.0)
    return Trained(answers[0][0], joined([held for _, held in answers]))


def joined(held: Sequence[Pieces]) -> dict[str, torch.Tensor]:
    """Whole parameters from the pieces of all ranks; NaN where none has any."""
    whole: dict[str, torch.Tensor] = {}
    for rank in held:
        for name, (shape, start, values) in rank.items():
            room = whole.setdefault(name, torch.full(shape, torch.nan))
            room[tuple(slice(a, a + size) for a, size in zip(start, values.shape, strict=True))] = (
                torch.from_numpy(values)
            )
    return whole


def distance(trained: Trained, reference: Trained) -> Distance:
    """How far `trained` is from `reference`."""
    assert trained.parameters.keys() == reference.parameters.keys()
    return Distance(
        loss=_farthest(trained, reference, lambda result: result.loss),
        norm=_farthest(trained, reference, lambda result: result.gradient_norm),
        parameters=most(
            ((trained.parameters[name] - whole).norm() / whole.norm().clamp(min=1e-12)).item()
            for name, whole in reference.parameters.items()
            # It adds the same to all scores of a query, so it moves by rounding alone.
            if not name.endswith("attention.key.bias")
        ),
        fall=reference.results[0].loss - reference.results[-1].loss,
    )


def _farthest(trained: Trained, reference: Trained, of: Callable[[StepResult], float]) -> float:
    pairs = zip(trained.results, reference.results, strict=True)
    return most(abs(of(ours) - of(theirs)) / of(theirs) for ours, theirs in pairs)


def most(differences: Iterable[float]) -> float:
    """The largest; NaN where any is, which Python's `max` passes over."""
    return float(np.max(list(differences)))


def _train(config: RunConfig, learning: Learning) -> tuple[list[StepResult], Pieces]:
    """One rank: five steps, and the pieces that it holds then."""
    with opened(config, learning) as (model, stepper, loader):
        rate = config.training.optimizer.learning_rate
        results = [
            stepper.step(step, loader.build(step - 1), rate, StepFlags()) for step in range(1, STEPS + 1)
        ]
        return results, _pieces(model.module)


@contextmanager
def opened(config: RunConfig, learning: Learning) -> Iterator[tuple[ParallelModel, Stepper, BatchLoader]]:
    """As one rank: the model, what moves it, and its batches."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        torch.manual_seed(config.training.seed)
        model = build_model(config, world)
        objective = learning.objective(config)
        if learning.against is not None:
            objective = learning.against(config, model, world).objective(objective)
        stepper = Stepper(
            model,
            build_optimizer(model.module, config.training.optimizer),
            world,
            config.training.gradient_clip_norm,
            objective,
            config.training.seed,
        )
        yield model, stepper, learning.loader(config, world, model.grid)


def initial(config: RunConfig) -> Pieces:
    """One rank of a completed `config`: the pieces that it begins with of the folder of initFrom."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        model = build_model(config, world)
        load_initial(config, model.module, world)
        return _pieces(model.module)


def _pieces(model: StageModules) -> Pieces:
    found = {}
    for name, parameter in model.named_parameters():
        piece = local_shard(parameter)
        found[name] = (tuple(parameter.shape), piece.start, piece.local.numpy(force=True).copy())
    return found
