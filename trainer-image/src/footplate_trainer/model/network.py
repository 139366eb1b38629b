"""The contract between a network and what lays it out over ranks.

A network is written for one device and knows nothing of ranks. Parallelism is
applied from outside, and may rely on the following.

*Names.* Parameter names are keys of checkpoints and of initialisation, and the
same in every pipeline stage: `blocks` is keyed by the block's number in the
whole network, as text. A parameter that two stages hold under one name (tied
embeddings) is one parameter: its gradients add up.

*Parts.* `keep` leaves a stage its blocks, and the beginning or the end if it
has them; what is deleted is None (or missing in `blocks`). Call it while the
network is on `meta`. After memory is given, `reset_tables`.

*Passes.* `advance` is a stage's pass: from what the stage before sent (nothing
for the first) to what the next one wants, floating-point tensors only; tokens
and the like come in `inputs` to each stage. The last stage's result is one
tensor [batch, length, width], ready for the output projection, which is
`head_weight` [vocabulary, width] and nothing more: a loss may take rows of
hidden states, or columns of the vocabulary, at a time and never see all logits.
`advance` is `begin`, `run` and `finish`, each only where the stage has that
part. A wrapper that gathers parameters around `forward` must be told that
`advance` is another forward method.

*Widths.* Layers read sizes off their weights and their input, never off the
shape: a rank may hold some heads, some columns, some positions.

*Attention.* `visible` decides who may look at whom, once a pass; each
`Attention.attend` obeys it. Context parallelism replaces both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from footplate_trainer.model.cache import LayerCache
from footplate_trainer.model.inputs import Inputs, States
from footplate_trainer.shape import ModelShape

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(hidden [batch, length, width], head [vocabulary, width], labels [batch, length]) -> sum of losses."""


class Network(nn.Module, ABC):
    """Embedding, numbered blocks, final norm and output projection."""

    embedding: nn.Embedding | None
    blocks: nn.ModuleDict
    visible: Callable[[Inputs], Any]
    head: nn.Linear | None

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.is_first = True
        self.is_last = True

    @abstractmethod
    def begin(self, inputs: Inputs) -> States:
        """What the first block reads."""

    @abstractmethod
    def run(self, states: States, inputs: Inputs, caches: Sequence[LayerCache] | None = None) -> States:
        """Through the blocks that are here; `caches` has one of each."""

    @abstractmethod
    def finish(self, states: States) -> Tensor:
        """Hidden states [batch, length, width] that the output projection reads."""

    @abstractmethod
    def drop(self, beginning: bool, end: bool) -> None:
        """Delete what only the first or only the last stage needs."""

    def reset_tables(self) -> None:
        """Compute constant tables where the parameters are; needed after leaving `meta`."""

    def keep(self, blocks: Collection[int], first: bool, last: bool) -> None:
        """Delete all but the given blocks and, where `first` or `last`, the beginning or the end."""
        for number in set(self.blocks) - {str(block) for block in blocks}:
            del self.blocks[number]
        self.is_first, self.is_last = first, last
        self.drop(beginning=not first, end=not last)

    def advance(self, *states: Tensor, inputs: Inputs, caches: Sequence[LayerCache] | None = None) -> States:
        """One stage's pass."""
        current = self.begin(inputs) if self.is_first else states
        current = self.run(current, inputs, caches)
        return (self.finish(current),) if self.is_last else current

    @property
    def head_weight(self) -> Tensor:
        """The output projection [vocabulary, width]; the embedding's own where they are tied."""
        owner = self.embedding if self.shape.tied_embeddings else self.head
        assert owner is not None, "only the last stage has it"
        return owner.weight

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
        *,
        labels: Tensor | None = None,
        criterion: Criterion | None = None,
    ) -> Tensor:
        """Logits [batch, length, vocabulary] of a whole network for tokens int64 [batch, length].

        With `labels` [batch, length] and `criterion` the answer is what that
        makes of them, and logits may never exist. It is computed here because
        only within the forward pass is a sharded head whole.
        """
        (hidden,) = self.advance(inputs=Inputs(tokens, documents), caches=caches)
        if criterion is not None:
            assert labels is not None
            return criterion(hidden, self.head_weight, labels)
        return functional.linear(hidden, self.head_weight)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device
