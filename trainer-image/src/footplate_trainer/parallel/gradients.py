"""Final reductions of a step's gradients after backward, and the ranks that count each of them.

FSDP has summed them over data and context ranks. Two kinds are still partial
sums: those of parameters that tensor ranks hold whole while each worked on its
piece of the sequence, and those of one parameter in two pipeline stages (tied
embeddings). One reduction for each kind completes them. The norm of all gradients
then counts every number once, however many ranks hold copies of it.
"""

from __future__ import annotations

from collections import defaultdict

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.local_shard import to_local, trained_parameters
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.partial_sums import PartialSum, complete_sums
from footplate_trainer.parallel.stage_module import StageModules


class Gradients:
    """The gradients of a rank's trained parameters, in the parameters' order."""

    def __init__(self, module: StageModules, grid: Grid) -> None:
        """Find the groups that share gradients. Collective over the pipeline."""
        named = trained_parameters(module)
        self._parameters = list(named.values())
        self._tied = [pair for pair in module.tied_parameters() if pair[0].requires_grad]
        speaks = grid.topology.copy_of(grid.rank) == 0
        self.counted = [speaks] * len(named)
        # Parameters, by index, whose gradients are parts of sums over a group.
        self._sums: list[tuple[dist.ProcessGroup, list[int]]] = []
        if grid.tensor_group is not None:
            self._share_over_tensor(grid, grid.tensor_group)
        if grid.pipeline_group is not None:
            self._share_over_pipeline(list(named), grid, grid.pipeline_group)

    def _share_over_tensor(self, grid: Grid, group: dist.ProcessGroup) -> None:
        uncut = [index for index, parameter in enumerate(self._parameters) if not _is_cut(parameter)]
        self._sums.append((group, uncut))
        for index in uncut:
            self.counted[index] &= grid.coordinates.tensor == 0

    def _share_over_pipeline(self, names: list[str], grid: Grid, group: dist.ProcessGroup) -> None:
        holders: dict[str, list[int]] = defaultdict(list)
        for pipeline, held in enumerate(object_collectives.all_gather(names, group)):
            for name in held:
                holders[name].append(pipeline)
        shared = {name: ranks for name, ranks in holders.items() if len(ranks) > 1}
        for ranks in sorted({tuple(ranks) for ranks in shared.values()}):
            joined = grid.join_holders(list(ranks))
            if joined is None:
                continue
            # By name: stages hold them in different orders.
            members = [names.index(name) for name in sorted(shared) if shared[name] == list(ranks)]
            self._sums.append((joined, members))
            for index in members:
                self.counted[index] &= grid.coordinates.pipeline == ranks[0]

    def collect(self) -> list[Tensor]:
        """Return this rank's part of each gradient, complete and contiguous; may share its memory.

        A zero-bubble schedule leaves gradients as the backward pass made them, some of them columns of a
        larger tensor, and torch's fused optimizers read them as rows. Collective.
        """
        for named, tied in self._tied:
            assert named.grad is not None
            assert tied.grad is not None
            to_local(named.grad).add_(to_local(tied.grad))
            tied.grad = None
        gradients = [to_local(_given(parameter)).contiguous() for parameter in self._parameters]
        for group, members in self._sums:
            complete_sums([PartialSum(gradients[index], (group,)) for index in members])
        return gradients


def _is_cut(parameter: Tensor) -> bool:
    """Return whether tensor ranks hold different parts of `parameter`."""
    if not isinstance(parameter, DTensor):
        return False
    names = parameter.device_mesh.mesh_dim_names or ()
    return "tensor" in names and isinstance(parameter.placements[names.index("tensor")], Shard)


def _given(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "every trained parameter contributes to the loss"
    return parameter.grad
