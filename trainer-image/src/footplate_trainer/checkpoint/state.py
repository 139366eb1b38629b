"""What a checkpoint holds: tensors by name, and the position in a small JSON file.

Optimizer state is flattened to `optimizer.<moment>.<parameter name>`: by name,
not by index, so that any other layout finds its rows. Everything that a step
depends on is a pure function of (seeds, step), so the position is two numbers.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Self

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from footplate_contracts.model import Contract
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.parallel.data import laid_out_like, local_rows

Moments = Mapping[str, Mapping[str, Tensor]]
"""Optimizer state: moment -> parameter name -> this rank's rows."""


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


def tensors(model: nn.Module, moments: Moments) -> dict[str, Tensor]:
    """All tensors of a snapshot by name, sharing memory with the training state.

    Sharded ones are DTensors that tell which rows they are. `rng` is the
    generator of this process: a copy.
    """
    laid_out = {name: laid_out_like(owner, rows) for name, owner, rows in _all_rows(model, moments)}
    return {"rng": torch.get_rng_state(), **laid_out}


class HostCopy:
    """Room in host memory for a copy of the training state, made once and filled again and again.

    `mesh` has the shape of the model's, on the CPU: a DTensor of a GPU's mesh
    would carry the copy back there.
    """

    def __init__(self, model: nn.Module, moments: Moments, mesh: DeviceMesh) -> None:
        self._live: list[Tensor] = []
        self._room: list[Tensor] = []
        self._named: dict[str, Tensor] = {}
        for name, owner, rows in _all_rows(model, moments):
            room = torch.empty_like(rows, device="cpu", pin_memory=rows.device.type != "cpu")
            self._live.append(rows)
            self._room.append(room)
            self._named[name] = laid_out_like(owner, room, mesh)

    def fill(self) -> dict[str, Tensor]:
        """The state of now, by name; the memory is overwritten by the next call."""
        for room, live in zip(self._room, self._live, strict=True):
            room.copy_(live, non_blocking=True)
        if self._live[0].device.type != "cpu":
            torch.accelerator.synchronize()
        return {"rng": torch.get_rng_state(), **self._named}


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


def _all_rows(model: nn.Module, moments: Moments) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, parameter that it is laid out like, this rank's rows) of each tensor."""
    for name, parameter in model.named_parameters():
        yield f"model.{name}", parameter, local_rows(parameter)[0]
        for moment, rows in moments.items():
            yield f"optimizer.{moment}.{name}", parameter, rows[name]
