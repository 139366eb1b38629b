"""The interface between a network and the code that distributes it over ranks.

A network is written for one device and is independent of ranks. Parallelism is applied from outside, and may
rely on the following.

*Names.* Parameter names are keys of checkpoints and of initialization, and the same in every pipeline stage:
`blocks` is keyed by the block's number in the whole network, as text. A parameter that two stages have under
one name (tied embeddings) is one parameter: its gradients add up.

*StageModules.* `prune_to_stage` leaves a stage its blocks, and the beginning or the end if it has them;
deleted modules are None (or missing in `blocks`). Call it while the network is on `meta`. After memory is
allocated, call `reset_tables`.

*Passes.* `forward_stage` is a stage's pass: from what the stage before sent (nothing for the first) to the
input of the next one, floating-point tensors only; tokens and the like come in `inputs` to each stage. The
last stage's result is one tensor [batch, length, width], ready for the output projection, which is
`head_weight` [vocabulary, width] and nothing more: a loss may process rows of hidden states, or columns of
the vocabulary, at a time and never have all logits. Where sequences are scored, a head [labels, width]
replaces it. `forward_stage` is `begin`, `run` and `finish`, each only where the stage has that part. A
wrapper that gathers parameters around `forward` must treat `forward_stage` as another forward method.

*Widths.* Layers read sizes off their weights and their input, never off the shape: a rank may have some
heads, some columns, some positions. `set_sequence_shard` informs the network that between attention and
feed-forward layers it has one of several equal shards of each sequence, and within attention those heads.

*Attention.* `attention_mask` builds the mask, once a pass; each `Attention.attend` obeys it. Context
parallelism replaces both. Where tokens continue a cached sequence, the layers' `AttentionState` builds the
mask and attends.

*Tiles.* Where `batch_invariance` has set a network's `tiles`, every user of its head multiplies in these, and
positions count from each document's beginning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from footplate_contracts.v1alpha1.model import PositionName
from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention import AttentionState, MultiHeadAttention
from footplate_trainer.model.dropout import BITS, DropoutSeed, HashDropout, HashRandomModule
from footplate_trainer.model.inputs import Inputs, States
from footplate_trainer.model.linear import Linear, LowRankAdapter, apply_linear
from footplate_trainer.model.tiles import Tiles


class TransformerNetwork(nn.Module, ABC):
    """Base of networks: embedding, numbered blocks, final norm and output projection."""

    attention_mask: Callable[[Inputs], Any]

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.is_first = True
        self.is_last = True
        self.sequence_shard = 0
        self.tiles: Tiles | None = None
        self.embedding: nn.Embedding | None = nn.Embedding(shape.vocabulary, shape.hidden)
        learned = shape.position is PositionName.LEARNED
        self.positions = nn.Embedding(shape.context, shape.hidden) if learned else None
        self.embedding_dropout = HashDropout(shape.embedding_dropout, "embedding")
        self.embedding_noise = EmbeddingNoise(shape.embedding_noise)
        self.blocks = nn.ModuleDict()
        # A tied head is the embedding used twice, not a second parameter: every
        # consumer of named_parameters() would have to know about the other.
        headless = shape.tied_embeddings or shape.labels
        self.head = None if headless else Linear(shape.hidden, shape.vocabulary, bias=False)
        self.score = Linear(shape.hidden, shape.labels, bias=False) if shape.labels else None

    def set_sequence_shard(self, index: int, count: int) -> None:
        """Set this rank's shard: `index` of `count` equal shards of each sequence, and of the heads."""
        self.sequence_shard = index
        for module in self.modules():
            if isinstance(module, HashRandomModule):
                module.sequence_shard = index
            if isinstance(module, MultiHeadAttention):
                module.dropout.first_head = index * (self.shape.heads // count)

    def embed(self, inputs: Inputs, start: int = 0) -> Tensor:
        """Embed the tokens and, where they are learned, the positions: [batch, length, hidden].

        `start` is the position of the first token where `inputs` have no positions. Learned positions count
        from the beginning of each document, or from the first of its tokens in the sequence; rotary ones need
        not, as only their distances matter, which are the same.
        """
        assert self.embedding is not None, "only the first stage has it"
        x: Tensor = self.embedding(inputs.tokens)
        if self.embedding_noise.alpha:
            lengths = self.slice_sequence_shard(self._lengths(inputs), x)
            x = self.embedding_noise(x, lengths, inputs.dropout_seed, inputs.positions)
        if self.positions is not None:
            x = x + self.positions(self.slice_sequence_shard(position_ids(inputs, start), x))
        return x

    def _lengths(self, inputs: Inputs) -> Tensor:
        """Return the length of each token's document: int64 [batch, length]."""
        if inputs.documents is None:  # one fills the whole sequence
            return torch.full_like(inputs.tokens, self.shape.context)
        lengths = document_lengths(inputs.documents)
        return lengths if inputs.positions is None else lengths[:, inputs.positions]

    def slice_sequence_shard(self, whole: Tensor, x: Tensor) -> Tensor:
        """Return the columns of `whole` [..., length] that x [batch, length or a shard of it, hidden] has."""
        length = x.shape[1]
        return whole[..., self.sequence_shard * length : (self.sequence_shard + 1) * length]

    @abstractmethod
    def begin(self, inputs: Inputs, start: int = 0) -> States:
        """Compute the first block's input; `start` as in `embed`."""

    @abstractmethod
    def run(self, states: States, inputs: Inputs, caches: Sequence[AttentionState] | None = None) -> States:
        """Run the local blocks; `caches` has one for each."""

    @abstractmethod
    def finish(self, states: States, inputs: Inputs) -> Tensor:
        """Compute the hidden states [batch, length, width] that the output projection reads."""

    def drop(self, beginning: bool, end: bool) -> None:
        """Delete what only the first or only the last stage needs; both need a tied embedding."""
        if beginning:
            self.positions = None
        if beginning and (end or not self.shape.tied_embeddings):
            self.embedding = None
        if end:
            self.head = self.score = None

    def reset_tables(self, device: torch.device | None = None) -> None:
        """Compute constant tables on `device`, or where the parameters are; needed after leaving `meta`."""

    def prune_to_stage(self, blocks: Collection[int], first: bool, last: bool) -> None:
        """Delete all but the given blocks and, where `first` or `last`, the beginning or the end."""
        for number in set(self.blocks) - {str(block) for block in blocks}:
            del self.blocks[number]
        self.is_first, self.is_last = first, last
        self.drop(beginning=not first, end=not last)

    def forward_stage(
        self, *states: Tensor, inputs: Inputs, caches: Sequence[AttentionState] | None = None
    ) -> States:
        """Run this stage's pass."""
        start = caches[0].filled if caches else 0
        current = self.begin(inputs, start) if self.is_first else states
        current = self.run(current, inputs, caches)
        if self.is_last:
            return (self.finish(current, inputs),)
        return tuple(tensor.contiguous() for tensor in current)  # as what is sent must be

    @property
    def head_weight(self) -> Tensor:
        """The output projection [vocabulary or labels, width]; the embedding's own where they are tied."""
        owner = (
            self.embedding if self.shape.tied_embeddings else self.head if self.score is None else self.score
        )
        assert owner is not None, "only the last stage has it"
        adapter = self._head_adapter
        return owner.weight if adapter is None else torch.cat((owner.weight, adapter.b), dim=1)

    def append_head_adapter(self, x: Tensor, inputs: Inputs) -> Tensor:
        """Append to x [batch, length, hidden] the columns for the adapter's B in `head_weight`."""
        adapter = self._head_adapter
        return x if adapter is None else torch.cat((x, adapter.project_down(x, inputs)), dim=-1)

    @property
    def _head_adapter(self) -> LowRankAdapter | None:
        return None if self.head is None else self.head.adapter

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        caches: Sequence[AttentionState] | None = None,
        **more: Any,
    ) -> Tensor:
        """Return logits [batch, length, vocabulary] of a whole network; `more` are fields of Inputs."""
        (hidden,) = self.forward_stage(inputs=Inputs(tokens, documents, **more), caches=caches)
        return apply_linear(hidden, self.head_weight, None, self.tiles)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device


def position_ids(inputs: Inputs, start: int) -> Tensor:
    """Return each token's position in its document: int64 [length], or with documents [batch, length]."""
    if inputs.documents is not None:
        places = positions_in_documents(inputs.documents)
        return places if inputs.positions is None else places[:, inputs.positions]
    if inputs.positions is not None:
        return inputs.positions
    return torch.arange(start, start + inputs.tokens.shape[1], device=inputs.tokens.device)


def positions_in_documents(documents: Tensor) -> Tensor:
    """Return each token's distance from the beginning of its document, from 0: int64 [batch, length].

    `documents` [batch, length] numbers the document of each token; equal ones are adjacent.
    """
    places = torch.arange(documents.shape[1], device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - torch.where(begins, places, 0).cummax(dim=1).values


class EmbeddingNoise(HashRandomModule):
    """Module that adds the noise in training; the noise is drawn by hash, like dropout masks."""

    def __init__(self, alpha: float) -> None:
        super().__init__("embedding.noise")
        self.alpha = alpha

    def forward(
        self, x: Tensor, lengths: Tensor, seed: DropoutSeed | None, positions: Tensor | None = None
    ) -> Tensor:
        """Add noise to x [batch, length, hidden]; `lengths` [batch, length] of each token's document."""
        if not (self.training and self.alpha > 0):
            return x
        assert seed is not None, "noise needs step and samples"
        uniform = self.random_integers(x.shape, x.device, seed, positions).float() * (2.0 / (1 << BITS)) - 1.0
        size = self.alpha / (lengths.float() * x.shape[-1]).sqrt()
        return x + (uniform * size[..., None]).to(x.dtype)


def document_lengths(documents: Tensor) -> Tensor:
    """Count the row's tokens that are in each token's document: int64 [batch, length].

    `documents` [batch, length] numbers the document of each token, from -1 on, below the length.
    """
    numbers = documents.long() + 1
    counts = torch.zeros(len(numbers), numbers.shape[1] + 2, dtype=torch.int64, device=documents.device)
    counts.scatter_add_(1, numbers, torch.ones_like(numbers))
    return counts.gather(1, numbers)
