"""The tensors of a checkpoint, by name.

Optimizer state is flattened to `optimizer.<moment>.<parameter name>`: by name, not by index, so that any
other layout finds its rows. A model that is trained besides the run's model has a prefix before all of its
names. Random generators have no state in a checkpoint: see record.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from footplate_trainer.background import OneInFlight
from footplate_trainer.parallel.data_parallel import dtensor_like
from footplate_trainer.parallel.local_shard import local_shard

Moments = Mapping[str, Mapping[str, Tensor]]
"""Optimizer state: moment -> parameter name -> its tensor, laid out over the ranks as it is."""


@dataclass(frozen=True)
class AuxiliaryModel:
    """A second network that is trained with the run's model; its tensors have a name prefix."""

    module: nn.Module
    moments: Moments
    prefix: str


def snapshot_tensors(model: nn.Module, moments: Moments, *beside: AuxiliaryModel) -> dict[str, Tensor]:
    """Return all tensors of a snapshot by name, sharing memory with the training state.

    Sharded tensors are DTensors, which know their rows.
    """
    return {name: dtensor_like(owner, rows) for name, owner, rows in _all_rows(model, moments, beside)}


def local_tensors(model: nn.Module, moments: Moments, *beside: AuxiliaryModel) -> dict[str, Tensor]:
    """Return this rank's part of each tensor as a plain tensor that shares memory with the training state."""
    return {name: part for name, _, part in _all_rows(model, moments, beside)}


class HostCopy:
    """Host memory for a copy of the training state, allocated once and filled again and again.

    `mesh` has the shape of the model's, on the CPU: a DTensor of a GPU's mesh would move the copy back there.
    """

    def __init__(self, model: nn.Module, moments: Moments, mesh: DeviceMesh, *beside: AuxiliaryModel) -> None:
        self._live: list[Tensor] = []
        self._room: list[Tensor] = []
        self._named: dict[str, Tensor] = {}
        for name, owner, rows in _all_rows(model, moments, beside):
            room = torch.empty_like(rows, device="cpu", pin_memory=rows.device.type != "cpu")
            self._live.append(rows)
            self._room.append(room)
            self._named[name] = dtensor_like(owner, room, mesh)
        # The first write to fresh pages takes several times a copy: not while a step waits.
        self._touching = OneInFlight("footplate-room")
        self._touching.start(self._touch)

    def _touch(self) -> None:
        for room in self._room:
            room.zero_()

    def fill(self) -> dict[str, Tensor]:
        """Copy the current state and return it by name; the next call overwrites the memory."""
        self._touching.finish()
        for room, live in zip(self._room, self._live, strict=True):
            room.copy_(live, non_blocking=True)
        if self._live[0].device.type != "cpu":
            torch.accelerator.synchronize()
        return dict(self._named)


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights alone, under the same names."""
    return {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}


def _all_rows(
    model: nn.Module, moments: Moments, beside: Sequence[AuxiliaryModel]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name, tensor, this rank's part of it) of all tensors."""
    for trained in (AuxiliaryModel(model, moments, ""), *beside):
        for name, parameter in trained.module.named_parameters():
            yield f"{trained.prefix}model.{name}", parameter, local_shard(parameter).local
        for moment, named in trained.moments.items():
            for name, tensor in named.items():
                yield f"{trained.prefix}optimizer.{moment}.{name}", tensor, local_shard(tensor).local
