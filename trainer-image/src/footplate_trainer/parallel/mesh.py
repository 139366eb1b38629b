"""The grid of ranks as torch objects: one device mesh, its slices and the groups along them.

Axes of one rank are left out, but for "shard", which FSDP always needs: each
axis costs a process group, and a restart waits for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from footplate_contracts.v1alpha1.parallelism import Sharding
from footplate_planning.topology import RankCoordinates, Topology


@dataclass(frozen=True)
class Grid:
    """This rank's view of the grid."""

    topology: Topology
    rank: int
    mesh: DeviceMesh
    context_group: dist.ProcessGroup | None

    @property
    def coordinates(self) -> RankCoordinates:
        """This rank's coordinates."""
        return self.topology.coordinates(self.rank)

    @property
    def data_mesh(self) -> DeviceMesh:
        """Mesh over which FSDP shards: (shard) or, with copies, (replicate, shard)."""
        axes = self.mesh.mesh_dim_names or ()
        return self.mesh[tuple(name for name in ("replicate", "shard") if name in axes)]

    @property
    def tensor_mesh(self) -> DeviceMesh | None:
        """Mesh of the ranks that share each matrix; None for a single rank."""
        return self.mesh["tensor"] if self.topology.tensor > 1 else None

    @property
    def tensor_group(self) -> dist.ProcessGroup | None:
        """Group of the ranks of `tensor_mesh`; None for a single rank."""
        return self.mesh.get_group("tensor") if self.topology.tensor > 1 else None

    @property
    def pipeline_group(self) -> dist.ProcessGroup | None:
        """Group of the ranks that share the layers; None for a single rank."""
        return self.mesh.get_group("pipeline") if self.topology.pipeline > 1 else None

    def join_holders(self, holders: list[int]) -> dist.ProcessGroup | None:
        """Create this rank's group with its peers at the pipeline coordinates `holders`; collective."""
        return create_groups(self.topology.holder_groups(holders), self.rank)


def open_grid(topology: Topology, rank: int, device_type: str) -> Grid:
    """Make all meshes and groups of `topology`; collective."""
    context = create_groups(topology.context_groups(), rank) if topology.context > 1 else None
    return Grid(topology, rank, make_mesh(topology, device_type), context)


def make_mesh(topology: Topology, device_type: str) -> DeviceMesh:
    """Create the mesh of all ranks, by named axes; collective."""
    axes = [
        (name, degree)
        for name, degree, always in (
            ("pipeline", topology.pipeline, False),
            ("replicate", topology.copies, topology.sharding in (Sharding.NONE, Sharding.HYBRID)),
            ("shard", topology.shards, True),
            ("tensor", topology.tensor, False),
        )
        if always or degree > 1
    ]
    return init_device_mesh(
        device_type, tuple(degree for _, degree in axes), mesh_dim_names=tuple(name for name, _ in axes)
    )


def create_groups(groups: Iterator[list[int]], rank: int) -> dist.ProcessGroup | None:
    """Create all `groups`, in the same order on every rank; return the group of `rank`. Collective."""
    mine = None
    for ranks in groups:
        group = dist.new_group(ranks)
        if rank in ranks:
            assert isinstance(group, dist.ProcessGroup)
            mine = group
    return mine
