"""The module that FSDP wraps and a pipeline schedule runs: a stage of the network, and the final loss.

The loss is computed within the forward pass because a sharded head is whole
only there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate_trainer.model.head_chunks import VocabularyShard
from footplate_trainer.model.inputs import Inputs, Targets
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.parallel.local_shard import local_shard, to_local
from footplate_trainer.parallel.sequence_collectives import gather_sequence


class Criterion(Protocol):
    """A function to minimise."""

    def __call__(
        self, hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        """Return a sum over what counts, scalar, from hidden states and this rank's rows of the head."""


@dataclass(frozen=True)
class MicroBatchInputs:
    """A micro-batch as this rank computes it."""

    inputs: Inputs
    targets: Targets


class StageModule(nn.Module):
    """A stage of the network."""

    def __init__(self, network: TransformerNetwork, tensor_group: dist.ProcessGroup | None) -> None:
        super().__init__()
        self.network = network
        self._tensor_group = tensor_group

    def forward(
        self, *states: Tensor, inputs: Inputs, targets: Targets, criterion: Criterion
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the states for the next stage or, in the last stage, the summed loss."""
        reached = self.network.forward_stage(*states, inputs=inputs)
        if not self.network.is_last:
            # A state that only passes through must be another tensor behind the stage than before it:
            # a schedule keeps both, and each with a gradient of its own.
            received = {id(state) for state in states}
            return tuple(state.clone() if id(state) in received else state for state in reached)
        (hidden,) = reached
        weight = self.network.head_weight
        tiles = self.network.tiles
        if self._tensor_group is None:
            whole = None if tiles is None else VocabularyShard(weight.shape[0], tiles=tiles)
            return criterion(hidden, weight, targets, vocabulary=whole)
        first = local_shard(weight).start[0]
        vocabulary = replace(vocabulary_shard(self._tensor_group, weight.shape[0], first), tiles=tiles)
        whole_hidden = gather_sequence(hidden, self._tensor_group)
        return criterion(whole_hidden, to_local(weight), targets, vocabulary=vocabulary)


class StageModules(nn.ModuleList):
    """This rank's stages, in the network's order, as one model with the network's parameter names.

    A parameter that two stages hold under one name (tied embeddings) is named once.
    """

    @property
    def stages(self) -> list[StageModule]:
        """The stages, in order."""
        return [stage for stage in self if isinstance(stage, StageModule)]

    @property
    def embedding(self) -> nn.Module | None:
        """The first stage's embedding, if this rank has it."""
        first = self.stages[0].network
        return first.embedding if first.is_first else None

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over each name once, as a single process would have it."""
        return iter(self._by_name().items())

    def tied_parameters(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Return pairs of a named parameter and another parameter of that name."""
        named = self._by_name()
        return [
            (named[name], parameter)
            for stage in self.stages
            for name, parameter in stage.network.named_parameters()
            if named[name] is not parameter
        ]

    def sync_tied(self) -> None:
        """Copy named parameters into those tied to them; call it after every change."""
        with torch.no_grad():
            for named, tied in self.tied_parameters():
                to_local(tied).copy_(to_local(named))

    def _by_name(self) -> dict[str, nn.Parameter]:
        named: dict[str, nn.Parameter] = {}
        for stage in self.stages:
            for name, parameter in stage.network.named_parameters():
                named.setdefault(name, parameter)
        return named


def vocabulary_shard(group: dist.ProcessGroup, size: int, first: int) -> VocabularyShard:
    """Return the shard of a vocabulary of `size` rows: this rank of `group` holds rows from `first` on.

    All-gathering the logits would undo the savings of sharding. A few numbers a token are enough: each
    rank's log-normaliser, the logit of a label that it holds, and any other number that a loss needs of all
    logits. Any contiguous split will do: uneven, empty on some ranks, or padded after
    row `size`; a loss that needs the `whole` head needs an even split. One all-gather
    of 4 bytes a number, token and rank for each chunk; all ranks of the group must
    have the same tokens and labels.
    """

    def gather(here: Tensor) -> Tensor:
        gathered = here.new_empty(group.size() * here.shape[0], here.shape[1])
        dist.all_gather_into_tensor(gathered, here, group=group)
        return gathered.view(group.size(), *here.shape)

    def whole(here: Tensor) -> Tensor:
        return gather_sequence(here[None], group)[0]

    return VocabularyShard(size, first, gather, whole, group.size())
