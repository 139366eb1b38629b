"""A stepper of a layout on gloo ranks, ready to be measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.loop.stepper import StepFlags, Stepper
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.parallel_model import ParallelModel, build_model
from footplate_trainer.parallel.world import DistributedContext, init_distributed, read_environment
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.losses import objective_of


@dataclass
class Laid:
    """Everything that a step needs."""

    world: DistributedContext
    model: ParallelModel
    stepper: Stepper
    step: Callable[[int], None]


@contextmanager
def laid(config: RunConfig) -> Iterator[Laid]:
    """The layout of `config` over the ranks that the environment names."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        model = build_model(config, world)
        optimizer = build_optimizer(model.module, config.training.optimizer)
        training = config.training
        stepper = Stepper(
            model, optimizer, world, training.gradient_clip_norm, objective_of(config), training.seed
        )
        loader = open_loader(config, open_shards(config, world, verify=False), model.grid)

        def step(number: int) -> None:
            stepper.step(number, loader.build(number - 1), 1e-3, StepFlags())

        yield Laid(world, model, stepper, step)
