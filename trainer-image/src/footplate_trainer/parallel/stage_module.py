"""What FSDP wraps and a pipeline schedule runs: a stage of the network, and the loss behind the last.

The loss is computed within the forward pass because only there is a sharded
head whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate_trainer.model.head_chunks import VocabularyShard
from footplate_trainer.model.inputs import Inputs
from footplate_trainer.model.network import Network
from footplate_trainer.model.targets import Targets
from footplate_trainer.parallel.local_shard import local_shard, to_local
from footplate_trainer.parallel.sequence import gather_sequence


class Criterion(Protocol):
    """What is minimised."""

    def __call__(
        self, hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        """A sum over what counts, scalar, from hidden states and the rows of the head that are here."""


@dataclass(frozen=True)
class MicroBatchInputs:
    """One micro-batch as this rank computes it."""

    inputs: Inputs
    targets: Targets


class StageModule(nn.Module):
    """One stage of the network."""

    def __init__(self, network: Network, tensor_group: dist.ProcessGroup | None) -> None:
        super().__init__()
        self.network = network
        self._tensor_group = tensor_group

    def forward(
        self, *states: Tensor, inputs: Inputs, targets: Targets, criterion: Criterion
    ) -> Tensor | tuple[Tensor, ...]:
        """The states for the next stage or, of the last, the summed loss."""
        reached = self.network.advance(*states, inputs=inputs)
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
    """The stages of this rank, in the network's order, as one model with the network's names.

    A parameter that two stages hold under one name (tied embeddings) is named once.
    """

    @property
    def stages(self) -> list[StageModule]:
        """The stages, first one first."""
        return [stage for stage in self if isinstance(stage, StageModule)]

    @property
    def embedding(self) -> nn.Module | None:
        """That of the first stage, if this rank has it."""
        first = self.stages[0].network
        return first.embedding if first.is_first else None

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Each name once, as a single process would have it."""
        return iter(self._by_name().items())

    def tied_parameters(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Pairs of a named parameter and another one of that name."""
        named = self._by_name()
        return [
            (named[name], parameter)
            for stage in self.stages
            for name, parameter in stage.network.named_parameters()
            if named[name] is not parameter
        ]

    def sync_tied(self) -> None:
        """Give tied parameters the values of the named; to be called whenever those change."""
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
    """The vocabulary of `size` rows of which this rank of `group` holds those from `first` on.

    All-gathering the logits would undo what the sharding saved. A few numbers a token are enough: each
    rank's log-normaliser, the label's logit where it is held, and what else a loss needs of all logits.
    Any contiguous split will do: uneven, empty on some ranks, or padded behind
    row `size`; for a loss that wants the `whole` head, an even one. One all-gather
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
