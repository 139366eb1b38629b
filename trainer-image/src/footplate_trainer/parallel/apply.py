"""From a shape to a model that is laid out over the ranks and initialised, in a fixed order.

The network is built without memory, wrapped, given memory for this rank's part
only, and then filled: no rank ever holds the whole of a large model.
"""

from __future__ import annotations

import torch
from torch import nn

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.config import DecoderShape, decoder_shape
from footplate_trainer.model.initialize import initialize_rows
from footplate_trainer.model.transformer import Decoder
from footplate_trainer.parallel.data import data_mesh, local_rows, shard_data
from footplate_trainer.parallel.topology import Topology
from footplate_trainer.parallel.world import World


def build_model(config: RunConfig, world: World) -> Decoder:
    """The decoder of `config`, sharded over `world`, with its initial weights."""
    shape: DecoderShape = decoder_shape(config)
    with torch.device("meta"):
        model = Decoder(shape)
    topology = Topology(world.size, config.parallelism.sharding)
    shard_data(model, data_mesh(topology, world.device), config.training.precision)
    model.to_empty(device=world.device)
    model.reset_tables()
    initialize(model, config.training.seed, config.model.initialization.standard_deviation)
    return model


def initialize(model: nn.Module, seed: int, standard_deviation: float) -> None:
    """Fill the rows of each parameter that this rank holds."""
    for name, parameter in model.named_parameters():
        local, first = local_rows(parameter)
        initialize_rows(local, name, first, seed, standard_deviation)
