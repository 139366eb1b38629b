"""From a shape to a model that is laid out over the ranks and initialised, in a fixed order.

The network is built without memory, cut by tensor and by pipeline, wrapped,
given memory for this rank's part only, and then filled: no rank ever holds the
whole of a large model. The order is tensor, pipeline, recomputation, compile,
data (docs/decisions/ADR-0005).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Precision
from footplate_planning.config import model_shape
from footplate_planning.topology import Topology, stage_layers
from footplate_trainer.model.build import build
from footplate_trainer.model.initialize import initialize_rows
from footplate_trainer.model.linear import begin_gradient
from footplate_trainer.parallel import device
from footplate_trainer.parallel.blocks import compile_blocks, recompute
from footplate_trainer.parallel.context import share_sequences
from footplate_trainer.parallel.data import Accumulation, shard_part
from footplate_trainer.parallel.mesh import Grid, make_mesh, open_grid
from footplate_trainer.parallel.part import Criterion, Feed, Part, Parts
from footplate_trainer.parallel.pieces import piece_of
from footplate_trainer.parallel.tensor import share_out
from footplate_trainer.parallel.world import World


class Passes(Protocol):
    """Forward and backward of a step, by whatever schedule."""

    def accumulate(self, feeds: Sequence[Feed], criterion: Criterion, valid: Callable[[], Tensor]) -> Tensor:
        """Gradients of summed losses / `valid()`, which may wait; this rank's part of the loss, fp64."""

    def evaluate(self, feeds: Sequence[Feed], criterion: Criterion) -> Tensor:
        """This rank's part of the sum of losses, fp64, without gradients."""


@dataclass(frozen=True)
class LaidOut:
    """A model over the ranks; `host_mesh` has all of them on CPUs, for copies in host memory."""

    model: Parts
    grid: Grid
    passes: Passes
    host_mesh: DeviceMesh


def build_model(config: RunConfig, world: World) -> LaidOut:
    """The network of `config`, laid out over `world`, with its initial weights. Collective."""
    topology = Topology.of(world.size, config.parallelism)
    grid = open_grid(topology, world.rank, world.device.type)
    layers = stage_layers(model_shape(config), topology)
    parts = Parts(
        _part(config, grid, number, layers[number]) for number in topology.stages_of(grid.place.pipeline)
    )
    parts.to_empty(device=device.home_of_shards(config.parallelism.offload, world.device))
    for part in parts.stages:
        part.network.reset_tables(world.device)
    initialize(parts, config.training.seed, config.model.initialization.standard_deviation)
    passes: Passes
    if topology.pipeline > 1:
        # Here and not above: torch's schedules take 0.4 s to import, which every start would pay.
        from footplate_trainer.parallel.pipeline import Pipeline

        dtype = torch.bfloat16 if config.training.precision is Precision.BF16 else torch.float32
        passes = Pipeline(parts, grid, world.device, dtype)
    else:
        passes = Accumulation(parts.stages[0], grid, world.device)
    on_cpu = world.device.type == "cpu"
    return LaidOut(parts, grid, passes, grid.mesh if on_cpu else make_mesh(topology, "cpu"))


def _part(config: RunConfig, grid: Grid, number: int, layers: range) -> Part:
    """Stage `number`, without memory."""
    with torch.device("meta"):
        network = build(model_shape(config))
    if grid.context_group is not None:
        share_sequences(network, grid.context_group)
    if grid.tensor_mesh is not None:
        share_out(network, grid.tensor_mesh)
    network.keep(layers, first=number == 0, last=number == grid.topology.stages - 1)
    if config.model.adapter is not None and network.is_first and network.embedding is not None:
        network.embedding.register_forward_hook(begin_gradient)
    recompute(network, config.training.recomputation)
    if config.training.compile:
        compile_blocks(network)
    part = Part(network, grid.tensor_group)
    offload = device.offload_policy(config.parallelism.offload, grid.mesh.device_type)
    shard_part(part, grid, config.training.precision, offload)
    return part


def initialize(model: Parts, seed: int, standard_deviation: float) -> None:
    """Fill the block of each parameter that this rank holds; a number's value depends on its place alone."""
    for name, parameter in model.named_parameters():
        piece = piece_of(parameter)
        if piece.local.ndim == 1 or piece.local.shape[1] == parameter.shape[1]:
            initialize_rows(piece.local, name, piece.start[0], seed, standard_deviation)
            continue
        rows = torch.empty(piece.local.shape[0], parameter.shape[1])
        initialize_rows(rows, name, piece.start[0], seed, standard_deviation)
        piece.local.copy_(rows.narrow(1, piece.start[1], piece.local.shape[1]))
    model.spread()
