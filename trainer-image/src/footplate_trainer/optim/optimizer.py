"""Builds the optimizer that a run configures, with one interface for loop and checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from footplate_contracts.v1alpha1 import training
from footplate_contracts.v1alpha1.training import OptimizerName
from footplate_trainer.optim.adafactor import Adafactor
from footplate_trainer.optim.elementwise import ElementwiseOptimizer


class ShardedOptimizer(Protocol):
    """Optimizer of this rank's part of each parameter."""

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update the parameters; `gradients` are of this rank's parts, in their order. Collective."""

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Return moment -> parameter name -> live tensor, laid out over the ranks."""

    def set_update_count(self, updates: int) -> None:
        """Set the number of updates that the moments include."""


def build_optimizer(model: nn.Module, settings: training.Optimizer) -> ShardedOptimizer:
    """Build the optimizer of resolved `settings` over the trained parameters of `model`."""
    if settings.name is OptimizerName.ADAFACTOR:
        return Adafactor(model, settings)
    return ElementwiseOptimizer(model, settings)
