"""Which optimizer a run asked for, behind one interface for loop and checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from footplate_contracts.v1alpha1 import training
from footplate_contracts.v1alpha1.training import OptimizerName
from footplate_trainer.optim.adafactor import Adafactor
from footplate_trainer.optim.elementwise import Elementwise


class Optimizer(Protocol):
    """Moves the part of each parameter that this rank holds."""

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update; `gradients` are of this rank's parts, in the order of the parameters. Collective."""

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Moment -> parameter name -> its tensor, laid out as it is over the ranks; the memory is live."""

    def set_updates_done(self, updates: int) -> None:
        """How many updates the moments have seen."""


def build_optimizer(model: nn.Module, settings: training.Optimizer) -> Optimizer:
    """The optimizer of resolved `settings` over what is trained of `model`, before its first update."""
    if settings.name is OptimizerName.ADAFACTOR:
        return Adafactor(model, settings)
    return Elementwise(model, settings)
