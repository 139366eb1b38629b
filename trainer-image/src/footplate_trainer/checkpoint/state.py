"""What a checkpoint holds: tensors by name, and the position in a small JSON file.

Optimizer state is flattened to `optimizer.<moment>.<parameter name>`: by name,
not by index, so that any other layout finds its rows. Everything that a step
depends on is a pure function of (seeds, step), so the position is two numbers.
"""

from __future__ import annotations

import platform
from typing import Any, Self

import torch
from torch import Tensor, nn

from footplate_contracts.model import Contract
from footplate_contracts.runconfig import RunConfig

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Versions(Contract):
    """The software that computed the state."""

    python: str
    torch: str

    @classmethod
    def here(cls) -> Self:
        """Those of this process."""
        return cls(python=platform.python_version(), torch=torch.__version__)


class TrainingState(Contract):
    """state.json: where the run stands, and on what its future depends."""

    step: int
    tokens: int
    samples: int
    seed: int
    data_seed: int
    world_size: int
    device: str
    threads: int
    versions: Versions


def tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """All tensors of a snapshot by name, sharing memory with the training state.

    Sharded ones are DTensors. `rng` is the generator of this process: a copy.
    """
    named: dict[str, Any] = {"rng": torch.get_rng_state()}
    for name, parameter in model.named_parameters():
        named[f"model.{name}"] = parameter.detach()
        for moment in _MOMENTS:
            named[f"optimizer.{moment}.{name}"] = optimizer.state[parameter][moment]
    return named


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The weights alone, under the same names."""
    return {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}


def describe(config: RunConfig, step: int, tokens: int, world_size: int, device: str) -> TrainingState:
    """The state record of `step`."""
    return TrainingState(
        step=step,
        tokens=tokens,
        samples=step * config.training.global_batch_size,
        seed=config.training.seed,
        data_seed=config.data.seed,
        world_size=world_size,
        device=device,
        threads=torch.get_num_threads(),
        versions=Versions.here(),
    )
