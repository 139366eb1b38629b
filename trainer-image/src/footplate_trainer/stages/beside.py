"""A network that a stage may train beside the run's model: in the same layout and the same checkpoints."""

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
    """A second trained network, built and not filled yet."""

    @property
    def model(self) -> ParallelModel:
        """The network, over the ranks."""

    @property
    def optimizer(self) -> Optimizer:
        """The network's optimizer."""

    @property
    def tensors(self) -> Beside:
        """The network's tensors in a checkpoint."""

    def begin(self, start: Start, world: World) -> None:
        """Set initial weights after `start` was found, and loaded if it is a checkpoint. Collective."""


BuildBeside = Callable[[RunConfig, ParallelModel, World], TrainedBeside]
"""Builds it; collective."""
