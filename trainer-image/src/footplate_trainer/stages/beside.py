"""What a stage may train beside the model of its run: in the same layout, and in the same checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.state import Beside
from footplate_trainer.optim.optimizer import Optimizer
from footplate_trainer.parallel.apply import ParallelModel
from footplate_trainer.parallel.world import World
from footplate_trainer.stages.start import Start


class TrainedBeside(Protocol):
    """Another network, built and not filled yet."""

    @property
    def model(self) -> ParallelModel:
        """It, over the ranks."""

    @property
    def optimizer(self) -> Optimizer:
        """What moves it."""

    @property
    def tensors(self) -> Beside:
        """What a checkpoint has of it."""

    def begin(self, start: Start, world: World) -> None:
        """After `start` was found, and loaded where it is a checkpoint's. Collective."""


BuildBeside = Callable[[RunConfig, ParallelModel, World], TrainedBeside]
"""Builds it; collective."""
