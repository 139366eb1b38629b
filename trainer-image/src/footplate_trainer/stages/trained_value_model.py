"""A network that a stage may train beside the run's model: in the same layout and the same checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.state_tensors import AuxiliaryModel
from footplate_trainer.optim.optimizer import ShardedOptimizer
from footplate_trainer.parallel.parallel_model import ParallelModel
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.stages.start import StartPosition


class TrainedValueModel(Protocol):
    """A second trained network, built and not filled yet."""

    @property
    def model(self) -> ParallelModel:
        """The network, over the ranks."""

    @property
    def optimizer(self) -> ShardedOptimizer:
        """The network's optimizer."""

    @property
    def tensors(self) -> AuxiliaryModel:
        """The network's tensors in a checkpoint."""

    def load_initial_weights(self, start: StartPosition, world: DistributedContext) -> None:
        """Set initial weights after `start` was found, and loaded if it is a checkpoint. Collective."""


BuildBeside = Callable[[RunConfig, ParallelModel, DistributedContext], TrainedValueModel]
"""Builds it; collective."""
