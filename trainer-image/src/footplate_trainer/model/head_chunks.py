"""The output head over a large vocabulary, a chunk of tokens at a time.

The logits of a batch are by far the largest tensor of a language model, and
nobody wants them: only a few numbers of each token, and two gradients. So
hidden states go through the head in chunks of tokens, in buffers that all
chunks share, and a chunk's gradients are computed while its logits are at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from footplate_trainer.model.tiles import Tiles

IGNORED = -100
"""Label of a position that has no target."""

# Bytes of a chunk's fp32 logits that are worked on at once: as much as stays in a CPU's cache from one pass
# to the next.
CPU_PIECE_BYTES = 2**21

_backward_passes: ContextVar[int] = ContextVar("backward_passes", default=1)


def _whole_already(head: Tensor) -> Tensor:
    return head


@dataclass(frozen=True)
class VocabularyShard:
    """Which rows of the output head are here, and how to learn about the others.

    `gather` takes numbers of tokens over the rows here, fp32 [k, tokens], and
    returns those of all `ranks` that share the head, [ranks, k, tokens]; None where
    all rows are here. A loss that wants the head itself gets all `size` rows from
    `whole`; then each of the ranks computes the same, and passes back its share of
    the gradients. With `tiles` a token's numbers have the same bits whichever others
    go through the head beside it.
    """

    size: int
    first: int = 0
    gather: Callable[[Tensor], Tensor] | None = None
    whole: Callable[[Tensor], Tensor] = _whole_already
    ranks: int = 1
    tiles: Tiles | None = None


@contextmanager
def backward_passes(number: int) -> Iterator[None]:
    """How often a loss that is computed within will be asked for its gradients; once without this.

    A zero-bubble pipeline asks twice, for the input's gradient and for the weights'.
    """
    token = _backward_passes.set(number)
    try:
        yield
    finally:
        _backward_passes.reset(token)


@dataclass(frozen=True)
class HeadGradients:
    """Of a sum, by hidden states and by a head that is not frozen: fp32, as it adds up over chunks."""

    hidden: Tensor
    head: Tensor | None
    head_dtype: torch.dtype

    @classmethod
    def zeros(cls, hidden: Tensor, head: Tensor, of_head: bool) -> HeadGradients:
        """None yet."""
        by_head = torch.zeros_like(head, dtype=torch.float32) if of_head else None
        return cls(torch.zeros_like(hidden), by_head, head.dtype)

    def scaled_in_place(self, by: Tensor) -> tuple[Tensor, Tensor | None]:
        """Times `by`, for the last time that they are asked for."""
        factor = by.to(torch.float32)
        by_head = None if self.head is None else self.head.mul_(factor).to(self.head_dtype)
        return self.hidden.mul_(factor), by_head

    def scaled(self, by: Tensor) -> tuple[Tensor, Tensor | None]:
        """Times `by`; they may be asked for again."""
        factor = by.to(torch.float32)
        by_head = None if self.head is None else (self.head * factor).to(self.head_dtype)
        return (self.hidden * factor).to(self.hidden.dtype), by_head


class KeptGradients:
    """Gradients from a forward pass, until they have been asked for as often as `backward_passes` said."""

    def __init__(self, grads: HeadGradients | None) -> None:
        """None where nobody will ask."""
        self._grads = grads
        self._left = _backward_passes.get()

    def times(self, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """By hidden states and by the head."""
        grads = self._grads
        assert grads is not None, "asked once more than backward_passes() said"
        self._left -= 1
        if self._left > 0:
            return grads.scaled(gradient)
        self._grads = None  # a pipeline keeps the losses of all micro-batches, and so what they hold
        return grads.scaled_in_place(gradient)


class HeadChunks:
    """The products of one chunk after the other with the rows of the head that are here."""

    def __init__(self, hidden: Tensor, head: Tensor, vocabulary: VocabularyShard, chunk: int) -> None:
        """`hidden` [tokens, width] and `head` [rows, width] of one float dtype."""
        self.hidden, self.vocabulary = hidden, vocabulary
        # Rows that only pad the vocabulary have no logits.
        self.rows = max(0, min(head.shape[0], vocabulary.size - vocabulary.first))
        self.head = head[: self.rows]
        size = (min(chunk, hidden.shape[0]), self.rows)
        self._products = hidden.new_empty(size)
        as_they_are = hidden.dtype == torch.float32
        self._logits = self._products if as_they_are else hidden.new_empty(size, dtype=torch.float32)

    def logits(self, tokens: slice) -> Tensor:
        """fp32 [tokens, rows] of this chunk, there until the next is asked for; may be written into."""
        hidden = self.hidden[tokens]
        logits = self._logits[: hidden.shape[0]]
        if self.rows:
            products = self._products[: hidden.shape[0]]
            if self.vocabulary.tiles is None:
                torch.mm(hidden, self.head.t(), out=products)
            else:
                self.vocabulary.tiles.product_into(hidden, self.head, None, products)
            if logits.dtype != hidden.dtype:
                logits.copy_(products)
        return logits

    def columns(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of int64 [tokens]: whether the label's row is here, and which it is, int64 [tokens, 1], or any."""
        first = self.vocabulary.first
        mine = (labels >= first) & (labels < first + self.rows)
        return mine, (labels - first).clamp(0, max(0, self.rows - 1))[:, None]

    def differentiate(self, tokens: slice, slopes: Tensor, grads: HeadGradients) -> None:
        """From the gradient of the logits, fp32 [tokens, rows], to those of what made them."""
        if not self.rows:
            return
        hidden = self.hidden[tokens]
        slopes = slopes.to(hidden.dtype)
        if grads.head is not None and hidden.dtype == torch.float32:
            grads.head[: self.rows].addmm_(slopes.t(), hidden)
        elif grads.head is not None:
            grads.head[: self.rows] += slopes.t() @ hidden
        torch.mm(slopes, self.head, out=grads.hidden[tokens])


def log_normaliser(logits: Tensor, tiles: Tiles | None) -> Tensor:
    """The logarithm of the sum of exponentials of each row of [tokens, rows]: [tokens]."""
    if tiles is None:
        return logits.logsumexp(-1)
    return tiles.rows(_logsumexp, logits).squeeze(-1)


def _logsumexp(logits: Tensor) -> Tensor:
    return logits.logsumexp(-1, keepdim=True)


def pieces(tokens: int, size: int) -> list[slice]:
    """`tokens` cut into pieces of at most `size`."""
    return [slice(first, first + size) for first in range(0, tokens, size)]
