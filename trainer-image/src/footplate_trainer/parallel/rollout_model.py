"""A training model's weights, laid out temporarily for generation on the same ranks.

There is one whole copy of the network for each data rank of `rollout.parallelism`, each
shared out by tensor and by pipeline. They exist within `RolloutLayout.laid_out_model`, and
their memory is freed after it. Adapters stay beside the layers that they
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
from footplate_planning.reshard import ReshardPlan, rollout_topology
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology, stage_layers
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.network_factory import build_network
from footplate_trainer.parallel.batch_invariance import agreed_tiles
from footplate_trainer.parallel.batch_invariance import make_batch_invariant as apply_tiles
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.mesh import Grid, create_groups, open_grid
from footplate_trainer.parallel.relayout import Transfer
from footplate_trainer.parallel.stage_module import StageModules
from footplate_trainer.parallel.tensor_parallel import apply_tensor_parallel
from footplate_trainer.parallel.world import DistributedContext


@dataclass(frozen=True)
class ModelReplica:
    """This rank's membership in the group of ranks that hold one copy of the network."""

    grid: Grid
    group: dist.ProcessGroup  # all ranks of the copy

    @property
    def number(self) -> int:
        """Index of this copy."""
        return self.grid.coordinates.data

    @property
    def leader(self) -> int:
        """Rank within `group` that samples for all: the first that has logits, in the last stage."""
        topology = self.grid.topology
        return (topology.pipeline - 1) * topology.tensor

    @property
    def is_leader(self) -> bool:
        """True if this rank is the leader."""
        return self.group.rank() == self.leader


@dataclass(frozen=True)
class RolloutModel:
    """This rank's part of a network that generates; its parameters are plain tensors of the part's size."""

    network: Decoder
    copy: ModelReplica

    @property
    def shape(self) -> ModelShape:
        """Shape of the whole network."""
        return self.network.shape


def open_replica(parallelism: RolloutParallelism, world: DistributedContext) -> ModelReplica:
    """Create the groups of a rollout that `compatibility.find_rollout_problems` allows. Collective."""
    topology = rollout_topology(world.size, parallelism)
    grid = open_grid(topology, world.rank, world.device.type)
    if topology.data == 1:
        return ModelReplica(grid, world.everybody)
    group = create_groups(topology.copy_groups(), world.rank)
    assert group is not None, "each rank is in one copy"
    return ModelReplica(grid, group)


def empty_network(shape: ModelShape, grid: Grid) -> Decoder:
    """Build this rank's part of the network of `shape`, in evaluation mode for generation, without memory."""
    with torch.device("meta"):
        network = build_network(replace(shape, embedding_noise=0.0))
    assert isinstance(network, Decoder), "only a decoder generates"
    if grid.tensor_mesh is not None:
        apply_tensor_parallel(network, grid.tensor_mesh)
    topology, pipeline = grid.topology, grid.coordinates.pipeline
    layers = stage_layers(shape, topology)[pipeline]
    network.prune_to_stage(layers, first=pipeline == 0, last=pipeline == topology.pipeline - 1)
    return network.eval().requires_grad_(False)


class RolloutLayout:
    """The parts of a run's rollouts that do not change with the weights; built once."""

    def __init__(
        self,
        shape: ModelShape,
        training: Topology,
        parallelism: RolloutParallelism,
        world: DistributedContext,
        dtype: torch.dtype,
        *,
        batch_invariant: bool = False,
    ) -> None:
        """Create groups and transfer; `training` is the training grid, `dtype` the computation's. Collective.

        `compatibility.find_rollout_problems` has nothing against `parallelism`. Raises NoInvariantTiles if
        `batch_invariant` is set and this machine cannot compute so.
        """
        self._shape, self._device = shape, world.device
        self.copy = open_replica(parallelism, world)
        plan = ReshardPlan.of(shape, training, self.copy.grid.topology, dtype.itemsize)
        self._transfer = Transfer(plan, world.everybody, world.device, dtype)
        network = empty_network(shape, self.copy.grid)
        self._tiles = agreed_tiles(network, dtype, world) if batch_invariant else None

    @property
    def replica_count(self) -> int:
        """Number of network copies that generate, each for different requests."""
        return self.copy.grid.topology.data

    @property
    def received_bytes(self) -> int:
        """Bytes received from other ranks in the latest transfer."""
        return self._transfer.received_bytes

    @contextmanager
    def laid_out_model(self, model: StageModules) -> Iterator[RolloutModel]:
        """Lay out the current `model` for generation; it must not be trained meanwhile. Collective."""
        held = {name: local_shard(parameter).local for name, parameter in model.named_parameters()}
        network = empty_network(self._shape, self.copy.grid)
        if self._tiles is not None:
            apply_tiles(network, self._tiles)
        assign_parameters(network, self._transfer.run(held))
        network.reset_tables(self._device)
        try:
            yield RolloutModel(network, self.copy)
        finally:
            _drop(network)  # whoever still holds it holds no memory


def assign_parameters(network: nn.Module, parts: Mapping[str, Tensor]) -> None:
    """Replace each parameter by this rank's plain tensor, so that no pass needs a DTensor."""
    for name in [name for name, _ in network.named_parameters()]:
        owner, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(owner), leaf, nn.Parameter(parts[name], requires_grad=False))


def _drop(network: nn.Module) -> None:
    for module in network.modules():
        for name, _ in [*module.named_parameters(recurse=False)]:
            module.register_parameter(name, None)
        for name, _ in [*module.named_buffers(recurse=False)]:
            module.register_buffer(name, None)
