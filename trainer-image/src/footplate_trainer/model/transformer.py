"""The decoder: embedding, pre-norm blocks, final norm, output head.

It is written for one device and knows nothing of ranks: parallelism is applied
from outside, by wrapping blocks and replacing parameters, so the module tree
and its parameter names are an interface (checkpoints and initialisation use
the names as keys).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from footplate_trainer.config import DecoderShape
from footplate_trainer.model.attention import Attention, document_mask
from footplate_trainer.model.cache import LayerCache
from footplate_trainer.model.feed_forward import FeedForward
from footplate_trainer.model.norm import RootMeanSquareNorm
from footplate_trainer.model.rotary import rotary_tables


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
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """[batch, length, hidden] -> the same."""
        x = x + self.attention(self.attention_norm(x), rotary, mask, cache)
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out


class Decoder(nn.Module):
    """Tokens to logits over the vocabulary."""

    rotary_cosine: Tensor
    rotary_sine: Tensor

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
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

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Logits [batch, length, vocabulary] for tokens int64 [batch, length].

        `documents` [batch, length] keeps attention within each document; None
        means one document. With `caches` (one a layer) the tokens follow those
        already in them; several tokens at once only into empty caches.
        """
        start = caches[0].filled if caches else 0
        end = start + tokens.shape[1]
        assert start == 0 or tokens.shape[1] == 1
        x = self.embedding(tokens)
        rotary = (self.rotary_cosine[start:end], self.rotary_sine[start:end])
        mask = self._mask(tokens, documents, start)
        for index, block in enumerate(self.blocks):
            x = block(x, rotary, mask, caches[index] if caches else None)
        x = self.norm(x)
        head = self.embedding.weight if self.head is None else self.head.weight
        return functional.linear(x, head)

    @staticmethod
    def _mask(tokens: Tensor, documents: Tensor | None, start: int) -> Tensor | None:
        if documents is not None:
            return document_mask(documents)
        if start:  # one new token sees all that came before; SDPA's causal flag would show it only the first
            return torch.ones(1, 1, 1, start + 1, dtype=torch.bool, device=tokens.device)
        return None

    def new_caches(self, batch: int, length: int) -> list[LayerCache]:
        """Empty caches with room for `length` tokens."""
        shape = self.shape
        return [
            LayerCache(batch, shape.key_value_heads, length, shape.head_size, self.embedding.weight)
            for _ in self.blocks
        ]
