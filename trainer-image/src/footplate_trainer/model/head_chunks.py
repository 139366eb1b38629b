"""The output head over a large vocabulary, a chunk of tokens at a time.

The logits of a batch are by far the largest tensor of a language model, and are needed only for a few numbers
of each token, and for two gradients. So hidden states go through the head in chunks of tokens, in buffers
that all chunks share, and a chunk's gradients are computed while its logits are in memory.
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
    """This rank's rows of the output head, and the collectives that access the others.

    `gather` takes numbers of tokens over the local rows, fp32 [k, tokens], and returns those of all `ranks`
    that share the head, [ranks, k, tokens]; None where all rows are local. A loss that needs the head itself
    gets all `size` rows from `whole`; then each of the ranks computes the same, and returns its share of the
    gradients. With `tiles` a token's numbers have the same bits whichever others go through the head in the
    same pass.
    """

    size: int
    first: int = 0
    gather: Callable[[Tensor], Tensor] | None = None
    whole: Callable[[Tensor], Tensor] = _whole_already
    ranks: int = 1
    tiles: Tiles | None = None


@contextmanager
def backward_passes(number: int) -> Iterator[None]:
    """Set how often losses computed in the block will be differentiated; once without this.

    A zero-bubble pipeline does it twice, for the input's gradient and for the weights'.
    """
    token = _backward_passes.set(number)
    try:
        yield
    finally:
        _backward_passes.reset(token)


@dataclass(frozen=True)
class HeadGradients:
    """Gradients of a sum with respect to hidden states and to a trained head: fp32, summed over chunks."""

    hidden: Tensor
    head: Tensor | None
    head_dtype: torch.dtype

    @classmethod
    def zeros(cls, hidden: Tensor, head: Tensor, of_head: bool) -> HeadGradients:
        """Create gradients of zero."""
        by_head = torch.zeros_like(head, dtype=torch.float32) if of_head else None
        return cls(torch.zeros_like(hidden), by_head, head.dtype)

    def scaled_in_place(self, by: Tensor) -> tuple[Tensor, Tensor | None]:
        """Multiply the gradients by `by` in place, for their last use."""
        factor = by.to(torch.float32)
        by_head = None if self.head is None else self.head.mul_(factor).to(self.head_dtype)
        return self.hidden.mul_(factor), by_head

    def scaled(self, by: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the gradients times `by`, without changing them."""
        factor = by.to(torch.float32)
        by_head = None if self.head is None else (self.head * factor).to(self.head_dtype)
        return (self.hidden * factor).to(self.hidden.dtype), by_head


class StoredGradients:
    """Gradients from a forward pass, stored until the last use that `backward_passes` announced."""

    def __init__(self, grads: HeadGradients | None) -> None:
        """Store `grads`; None where no gradients are needed."""
        self._grads = grads
        self._left = _backward_passes.get()

    def scaled_by(self, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the gradients times `gradient`, with respect to hidden states and to the head."""
        grads = self._grads
        assert grads is not None, "more calls than backward_passes() returned"
        self._left -= 1
        if self._left > 0:
            return grads.scaled(gradient)
        self._grads = None  # a pipeline keeps the losses of all micro-batches, and so what they hold
        return grads.scaled_in_place(gradient)


class HeadChunks:
    """Products of successive chunks with the local rows of the head."""

    def __init__(self, hidden: Tensor, head: Tensor, vocabulary: VocabularyShard, chunk: int) -> None:
        """Allocate the buffers; `hidden` [tokens, width] and `head` [rows, width] of one float dtype."""
        self.hidden, self.vocabulary = hidden, vocabulary
        # Rows that only pad the vocabulary have no logits.
        self.rows = max(0, min(head.shape[0], vocabulary.size - vocabulary.first))
        self.head = head[: self.rows]
        size = (min(chunk, hidden.shape[0]), self.rows)
        self._products = hidden.new_empty(size)
        as_they_are = hidden.dtype == torch.float32
        self._logits = self._products if as_they_are else hidden.new_empty(size, dtype=torch.float32)

    def logits(self, tokens: slice) -> Tensor:
        """Compute the chunk's logits, fp32 [tokens, rows], valid until the next call; may be overwritten."""
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

    def label_columns(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return which labels' rows are local, bool [tokens], and their columns, int64 [tokens, 1].

        `labels` are int64 [tokens]; the column of a label without a local row is arbitrary.
        """
        first = self.vocabulary.first
        mine = (labels >= first) & (labels < first + self.rows)
        return mine, (labels - first).clamp(0, max(0, self.rows - 1))[:, None]

    def differentiate(self, tokens: slice, slopes: Tensor, grads: HeadGradients) -> None:
        """Add to `grads` what follows from `slopes`, the gradient of the logits, fp32 [tokens, rows]."""
        if not self.rows:
            return
        hidden = self.hidden[tokens]
        slopes = slopes.to(hidden.dtype)
        if grads.head is not None and hidden.dtype == torch.float32:
            grads.head[: self.rows].addmm_(slopes.t(), hidden)
        elif grads.head is not None:
            grads.head[: self.rows] += slopes.t() @ hidden
        torch.mm(slopes, self.head, out=grads.hidden[tokens])


def row_logsumexp(logits: Tensor, tiles: Tiles | None) -> Tensor:
    """Return the logarithm of the sum of exponentials of each row of [tokens, rows]: [tokens]."""
    if tiles is None:
        return logits.logsumexp(-1)
    return tiles.rows(_logsumexp, logits).squeeze(-1)


def _logsumexp(logits: Tensor) -> Tensor:
    return logits.logsumexp(-1, keepdim=True)


def cut_into_slices(tokens: int, size: int) -> list[slice]:
    """Cut `tokens` into slices of at most `size`."""
    return [slice(first, first + size) for first in range(0, tokens, size)]
