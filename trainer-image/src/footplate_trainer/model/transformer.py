"""The decoder: embedding, pre-norm blocks, final norm, output head.

It is written for one device and knows nothing of ranks: parallelism is applied
from outside, by wrapping blocks and replacing parameters, so the module tree
and its parameter names are an interface (checkpoints and initialisation use
the names as keys).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from footplate_trainer.config import DecoderShape
from footplate_trainer.model.attention import Attention, document_mask
from footplate_trainer.model.cache import LayerCache
from footplate_trainer.model.feed_forward import FeedForward
from footplate_trainer.model.norm import RootMeanSquareNorm
from footplate_trainer.model.rotary import rotary_tables


@dataclass(frozen=True)
class Inputs:
    """What every part of a model may look at, whichever layers it holds."""

    tokens: Tensor  # int64 [batch, length]
    documents: Tensor | None = None  # [batch, length]: attention stays within one; None: there is one
    positions: Tensor | None = None  # int64 [length] in the sequence; None: 0 … length-1


Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(hidden [batch, length, hidden], head [vocabulary, hidden], labels [batch, length]) -> sum of losses."""

States = tuple[Tensor, ...]
"""What travels from block to block; floats only, as it may travel from rank to rank."""


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.attention_norm = RootMeanSquareNorm(shape.hidden, shape.norm_epsilon)
        self.attention = Attention(shape)
        self.feed_forward_norm = RootMeanSquareNorm(shape.hidden, shape.norm_epsilon)
        self.feed_forward = FeedForward(shape)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Any = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """[batch, length, hidden] -> the same; `mask` is for attention."""
        x = x + self.attention(self.attention_norm(x), rotary, mask, cache)
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out


def visible(inputs: Inputs) -> Tensor | None:
    """The mask of `attend`; None where it is causal and no more."""
    return None if inputs.documents is None else document_mask(inputs.documents)


class Decoder(nn.Module):
    """Tokens to logits over the vocabulary.

    A pipeline's parts are decoders that lack some blocks, embedding or head:
    each runs `begin`, `run`, `finish` as far as it can.
    """

    rotary_cosine: Tensor
    rotary_sine: Tensor

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.visible: Callable[[Inputs], Any] = visible
        self.embedding = nn.Embedding(shape.vocabulary, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RootMeanSquareNorm(shape.hidden, shape.norm_epsilon)
        # A tied head is the embedding used twice, not a second parameter: every
        # consumer of named_parameters() would have to know about the twin.
        self.head = None if shape.tied_embeddings else nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        self.reset_tables()

    def reset_tables(self) -> None:
        """Compute the rotary tables on the embedding's device; needed after leaving `meta`."""
        shape, device = self.shape, self.embedding.weight.device
        cosine, sine = rotary_tables(shape.context, shape.head_size, shape.rope_theta, device)
        self.register_buffer("rotary_cosine", cosine, persistent=False)
        self.register_buffer("rotary_sine", sine, persistent=False)

    def begin(self, inputs: Inputs) -> States:
        """The states before the first block."""
        return (self.embedding(inputs.tokens),)

    def run(self, states: States, inputs: Inputs) -> States:
        """The states after the blocks that are here."""
        (x,) = states
        rotary, mask = self._rotary(inputs), self.visible(inputs)
        for block in self.blocks:
            x = block(x, rotary, mask)
        return (x,)

    def finish(self, states: States) -> Tensor:
        """Hidden states [batch, length, hidden] for the head, whose weight is `head_weight`."""
        normed: Tensor = self.norm(states[0])
        return normed

    @property
    def head_weight(self) -> Tensor:
        """[vocabulary, hidden]."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
        *,
        labels: Tensor | None = None,
        criterion: Criterion | None = None,
    ) -> Tensor:
        """Logits [batch, length, vocabulary] for tokens int64 [batch, length].

        With `labels` [batch, length] and `criterion` the answer is what that
        makes of them, and logits may never exist. It is computed here because
        only within the forward pass is a sharded head whole.

        `documents` [batch, length] keeps attention within each document; None
        means one document. With `caches` (one a layer) the tokens follow those
        already in them; several tokens at once only into empty caches.
        """
        inputs = Inputs(tokens, documents)
        states = self.begin(inputs)
        states = self._run_cached(states, caches) if caches else self.run(states, inputs)
        hidden = self.finish(states)
        if criterion is not None:
            assert labels is not None
            return criterion(hidden, self.head_weight, labels)
        return functional.linear(hidden, self.head_weight)

    def _rotary(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        if inputs.positions is not None:
            return self.rotary_cosine[inputs.positions], self.rotary_sine[inputs.positions]
        length = inputs.tokens.shape[1]
        return self.rotary_cosine[:length], self.rotary_sine[:length]

    def _run_cached(self, states: States, caches: Sequence[LayerCache]) -> States:
        (x,) = states
        start, length = caches[0].filled, x.shape[1]
        assert start == 0 or length == 1
        rotary = (self.rotary_cosine[start : start + length], self.rotary_sine[start : start + length])
        # One new token sees all that came before; SDPA's causal flag would show it only the first.
        mask = torch.ones(1, 1, 1, start + 1, dtype=torch.bool, device=x.device) if start else None
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, rotary, mask, cache)
        return (x,)

    def new_caches(self, batch: int, length: int) -> list[LayerCache]:
        """Empty caches with room for `length` tokens."""
        shape = self.shape
        return [
            LayerCache(batch, shape.key_value_heads, length, shape.head_size, self.embedding.weight)
            for _ in self.blocks
        ]
