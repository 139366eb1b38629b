"""From a shape to a model that is laid out over the ranks and initialised, in a fixed order.

The network is built without memory, wrapped, given memory for this rank's part
only, and then filled: no rank ever holds the whole of a large model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.config import model_shape
from footplate_trainer.model.initialize import initialize_rows
from footplate_trainer.model.transformer import Decoder
from footplate_trainer.parallel.data import data_mesh, local_rows, shard_data
from footplate_trainer.parallel.topology import Topology
from footplate_trainer.parallel.world import World


@dataclass(frozen=True)
class LaidOut:
    """A decoder over the ranks; `host_mesh` is its mesh on CPUs, for copies in host memory."""

    model: Decoder
    host_mesh: DeviceMesh


def build_model(config: RunConfig, world: World) -> LaidOut:
    """The decoder of `config`, sharded over `world`, with its initial weights."""
    with torch.device("meta"):
        model = Decoder(model_shape(config))
    topology = Topology(world.size, config.parallelism.sharding)
    mesh = data_mesh(topology, world.device.type)
    shard_data(model, mesh, config.training.precision)
    model.to_empty(device=world.device)
    model.reset_tables()
    initialize(model, config.training.seed, config.model.initialization.standard_deviation)
    return LaidOut(model, mesh if world.device.type == "cpu" else data_mesh(topology, "cpu"))


def initialize(model: nn.Module, seed: int, standard_deviation: float) -> None:
    """Fill the rows of each parameter that this rank holds."""
    for name, parameter in model.named_parameters():
        local, first = local_rows(parameter)
        initialize_rows(local, name, first, seed, standard_deviation)
