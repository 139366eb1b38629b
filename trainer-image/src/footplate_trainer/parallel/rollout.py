"""The weights of a model that trains, laid out for generation on the same ranks, for a while.

Whole copies of the network, each shared out by tensor and by pipeline, one for each
data rank of `rollout.parallelism`. They are there within `RolloutRanks.weights`, and
their memory comes back behind it. Adapters stay beside the layers that they
adapt, as they are in training: a merged weight is another number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate_contracts.v1alpha1.rollout import RolloutParallelism
from footplate_planning.relayout import Relayout, rollout_topology
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology, stage_layers
from footplate_trainer.model.batch_invariance import batch_invariant as apply_tiles
from footplate_trainer.model.build import build
from footplate_trainer.model.transformer import Decoder
from footplate_trainer.parallel.batch_invariance import agreed_tiles
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.mesh import Grid, join, open_grid
from footplate_trainer.parallel.relayout import Transfer
from footplate_trainer.parallel.stage_module import StageModules
from footplate_trainer.parallel.tensor_parallel import apply_tensor_parallel
from footplate_trainer.parallel.world import World


@dataclass(frozen=True)
class Copy:
    """This rank's place among those that hold one copy of the network together."""

    grid: Grid
    group: dist.ProcessGroup  # all ranks of the copy

    @property
    def number(self) -> int:
        """Which copy."""
        return self.grid.coordinates.data

    @property
    def leader(self) -> int:
        """Who draws for all, by rank within `group`: the first that has logits, in the last stage."""
        topology = self.grid.topology
        return (topology.pipeline - 1) * topology.tensor

    @property
    def leads(self) -> bool:
        """Whether that is this rank."""
        return self.group.rank() == self.leader


@dataclass(frozen=True)
class RolloutModel:
    """This rank's part of a network that generates; its parameters are plain tensors, as large as that."""

    network: Decoder
    copy: Copy

    @property
    def shape(self) -> ModelShape:
        """Of the whole network."""
        return self.network.shape


def open_copy(parallelism: RolloutParallelism, world: World) -> Copy:
    """Make the groups of a rollout that `compatibility.rollout_problems` allows. Collective."""
    topology = rollout_topology(world.size, parallelism)
    grid = open_grid(topology, world.rank, world.device.type)
    if topology.data == 1:
        return Copy(grid, world.everybody)
    group = join(topology.copy_groups(), world.rank)
    assert group is not None, "each rank is in one copy"
    return Copy(grid, group)


def empty_network(shape: ModelShape, grid: Grid) -> Decoder:
    """This rank's part of the network of `shape`, in the state in which it generates, without memory."""
    with torch.device("meta"):
        network = build(replace(shape, embedding_noise=0.0))
    assert isinstance(network, Decoder), "only a decoder generates"
    if grid.tensor_mesh is not None:
        apply_tensor_parallel(network, grid.tensor_mesh)
    topology, pipeline = grid.topology, grid.coordinates.pipeline
    layers = stage_layers(shape, topology)[pipeline]
    network.keep(layers, first=pipeline == 0, last=pipeline == topology.pipeline - 1)
    return network.eval().requires_grad_(False)


class RolloutRanks:
    """What of a run's rollouts does not change with the weights; made once."""

    def __init__(
        self,
        shape: ModelShape,
        training: Topology,
        parallelism: RolloutParallelism,
        world: World,
        dtype: torch.dtype,
        *,
        batch_invariant: bool = False,
    ) -> None:
        """`training` is the grid that trains, `dtype` what is computed with. Collective.

        `compatibility.rollout_problems` has nothing against `parallelism`. Raises NotInvariant where answers
        shall be `batch_invariant`, and this machine cannot do that.
        """
        self._shape, self._device = shape, world.device
        self.copy = open_copy(parallelism, world)
        plan = Relayout.of(shape, training, self.copy.grid.topology, dtype.itemsize)
        self._transfer = Transfer(plan, world.everybody, world.device, dtype)
        network = empty_network(shape, self.copy.grid)
        self._tiles = agreed_tiles(network, dtype, world) if batch_invariant else None

    @property
    def copies(self) -> int:
        """How many copies of the network answer, each other requests."""
        return self.copy.grid.topology.data

    @property
    def received_bytes(self) -> int:
        """What came from other ranks, the last time."""
        return self._transfer.received_bytes

    @contextmanager
    def weights(self, model: StageModules) -> Iterator[RolloutModel]:
        """`model` as it stands, laid out for generation; it must not be trained meanwhile. Collective."""
        held = {name: local_shard(parameter).local for name, parameter in model.named_parameters()}
        network = empty_network(self._shape, self.copy.grid)
        if self._tiles is not None:
            apply_tiles(network, self._tiles)
        take_parts(network, self._transfer.run(held))
        network.reset_tables(self._device)
        try:
            yield RolloutModel(network, self.copy)
        finally:
            _drop(network)  # whoever still holds it holds no memory


def take_parts(network: nn.Module, parts: Mapping[str, Tensor]) -> None:
    """Make each parameter the plain tensor that this rank has of it: no pass asks who has the rest."""
    for name in [name for name, _ in network.named_parameters()]:
        owner, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(owner), leaf, nn.Parameter(parts[name], requires_grad=False))


def _drop(network: nn.Module) -> None:
    for module in network.modules():
        for name, _ in [*module.named_parameters(recurse=False)]:
            module.register_parameter(name, None)
        for name, _ in [*module.named_buffers(recurse=False)]:
            module.register_buffer(name, None)
