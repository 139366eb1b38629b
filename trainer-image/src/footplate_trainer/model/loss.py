"""Cross-entropy over a large vocabulary, without ever holding all logits.

The logits of a batch are by far the largest tensor of a language model, and
nobody wants them: only a scalar and two gradients. So hidden states go through
the output head in chunks of tokens, and each chunk's gradients are computed
while its logits are still in the cache. The result is a sum, because only the
caller knows the global number of valid tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from footplate_planning.memory import loss_chunk

IGNORED = -100
"""Label of a position that has no target."""

# Bytes of a chunk's fp32 logits that are worked on at once: as much as stays in a CPU's cache from one pass
# to the next.
_CPU_PIECE_BYTES = 2**21

_backward_passes: ContextVar[int] = ContextVar("backward_passes", default=1)


@dataclass(frozen=True)
class TokenLoss:
    """What is minimised at each valid position, over logits z and their log-normaliser Z.

    Z - (1 - s) z[label] - s mean(z) + w Z^2, with smoothing s (Szegedy et al.
    2016) and z-loss w (Chowdhery et al. 2022), which keeps Z near 0.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0


def _same(statistics: Tensor) -> Tensor:
    return statistics


@dataclass(frozen=True)
class VocabularyShard:
    """Which rows of the output head are here, and how to learn about the others.

    `combine` takes fp32 [3, tokens] over the rows here (log-normaliser, logit of
    the label or 0, sum of logits) and returns the same over all `size` rows. A loss
    that wants the head itself gets all rows from `whole`; then each of the `ranks`
    that share it computes the same, and passes back its share of the gradients.
    """

    size: int
    first: int = 0
    combine: Callable[[Tensor], Tensor] = _same
    whole: Callable[[Tensor], Tensor] = _same
    ranks: int = 1


def summed_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    loss: TokenLoss = TokenLoss(),
    *,
    vocabulary: VocabularyShard | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Sum of `loss` over valid positions: fp64 scalar.

    `hidden` [..., hidden] and `head` [rows, hidden] of any float dtype, the
    logits hidden @ head.T being fp32 from there on; `labels` int64 [...] with
    IGNORED where there is nothing to predict. `chunk` is the number of tokens at
    once.

    Where the head's rows are shared out (`vocabulary`), the value is the whole
    loss on every rank, the head's gradient is that of the rows here, and the
    gradient of `hidden` is the part through these rows: the ranks' sum counts.
    """
    vocabulary = vocabulary or VocabularyShard(head.shape[0])
    flat = hidden.flatten(0, -2)
    chunk = chunk or loss_chunk(head.shape[0], head.device.type)
    differentiate = torch.is_grad_enabled()
    summed: Tensor = _Chunked.apply(flat, head, labels.flatten(), loss, vocabulary, chunk, differentiate)
    return summed


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


class _Chunked(Function):
    """The sum, with all gradients computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        labels: Tensor,
        loss: TokenLoss,
        vocabulary: VocabularyShard,
        chunk: int,
        differentiate: bool,
    ) -> Tensor:
        chunks = _Chunks(hidden, head, loss, vocabulary, chunk)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        grads = _Gradients.zeros(hidden, head, of_head=ctx.needs_input_grad[1]) if differentiate else None
        for start in range(0, hidden.shape[0], chunk):
            total += chunks.add(slice(start, start + chunk), labels[start : start + chunk], grads)
        ctx.grads, ctx.asked = grads, _backward_passes.get()
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        grads: _Gradients | None = ctx.grads
        assert grads is not None, "asked once more than backward_passes() said"
        ctx.asked -= 1
        if ctx.asked > 0:
            return (*grads.scaled(gradient), None, None, None, None, None)
        ctx.grads = None  # a pipeline keeps the losses of all micro-batches, and so what they hold
        return (*grads.scaled_in_place(gradient), None, None, None, None, None)


@dataclass(frozen=True)
class _Gradients:
    """Of the sum, by hidden states and by a head that is not frozen: fp32, as it adds up over chunks."""

    hidden: Tensor
    head: Tensor | None
    head_dtype: torch.dtype

    @classmethod
    def zeros(cls, hidden: Tensor, head: Tensor, of_head: bool) -> _Gradients:
        by_head = torch.zeros_like(head, dtype=torch.float32) if of_head else None
        return cls(torch.zeros_like(hidden), by_head, head.dtype)

    def scaled_in_place(self, by: Tensor) -> tuple[Tensor, Tensor | None]:
        factor = by.to(torch.float32)
        by_head = None if self.head is None else self.head.mul_(factor).to(self.head_dtype)
        return self.hidden.mul_(factor), by_head

    def scaled(self, by: Tensor) -> tuple[Tensor, Tensor | None]:
        factor = by.to(torch.float32)
        by_head = None if self.head is None else (self.head * factor).to(self.head_dtype)
        return (self.hidden * factor).to(self.hidden.dtype), by_head


class _Chunks:
    """The arithmetic of one chunk, in buffers that all chunks share."""

    def __init__(
        self,
        hidden: Tensor,
        head: Tensor,
        loss: TokenLoss,
        vocabulary: VocabularyShard,
        chunk: int,
    ) -> None:
        self.hidden, self.loss, self.vocabulary = hidden, loss, vocabulary
        # Rows that only pad the vocabulary have no logits.
        self.rows = max(0, min(head.shape[0], vocabulary.size - vocabulary.first))
        self.head = head[: self.rows]
        size = (min(chunk, hidden.shape[0]), self.rows)
        self._products = hidden.new_empty(size)
        as_they_are = hidden.dtype == torch.float32
        self._logits = self._products if as_they_are else hidden.new_empty(size, dtype=torch.float32)
        # Each piece costs a collective where the vocabulary is shared.
        whole = hidden.device.type != "cpu" or vocabulary.combine is not _same
        self._piece = chunk if whole else max(1, _CPU_PIECE_BYTES // (4 * max(1, self.rows)))

    def add(self, tokens: slice, labels: Tensor, grads: _Gradients | None) -> Tensor:
        """This chunk's sum, fp64; its gradients are stored in and added to `grads`."""
        hidden = self.hidden[tokens]
        logits = self._logits[: hidden.shape[0]]
        if self.rows:
            torch.mm(hidden, self.head.t(), out=self._products[: hidden.shape[0]])
            if logits.dtype != hidden.dtype:
                logits.copy_(self._products[: hidden.shape[0]])
        pieces = [slice(first, first + self._piece) for first in range(0, len(logits), self._piece)]
        losses = [self._settle(logits[piece], labels[piece], grads is not None) for piece in pieces]
        if grads is not None and self.rows:
            self._differentiate(tokens, logits, grads)
        return torch.cat(losses).double().sum()

    def _settle(self, logits: Tensor, labels: Tensor, differentiate: bool) -> Tensor:
        """Losses, fp32 [tokens], of fp32 logits [tokens, rows], which become their own gradients."""
        first, rows = self.vocabulary.first, self.rows
        valid = labels != IGNORED
        mine = valid & (labels >= first) & (labels < first + rows)
        columns = (labels - first).clamp(0, max(0, rows - 1))[:, None]
        here, sums = self._statistics(logits, columns, mine)
        normaliser, label, total = self.vocabulary.combine(here)
        smoothing, share = self.loss.label_smoothing, self.loss.label_smoothing / self.vocabulary.size
        each = normaliser - (1 - smoothing) * label - share * total + self.loss.z_loss * normaliser.square()
        if differentiate and rows:
            # d/dz = softmax (1 + 2 w Z) - (1 - s) [label] - s / size
            slope = valid * (1 + 2 * self.loss.z_loss * normaliser) * torch.exp(here[0] - normaliser) / sums
            logits.mul_(slope[:, None])
            if share:
                logits.sub_((valid * share)[:, None])
            logits.scatter_add_(1, columns, (mine * (smoothing - 1.0))[:, None])
        return torch.where(valid, each, 0.0)

    def _statistics(self, logits: Tensor, columns: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        """Over the rows here: fp32 [3, tokens] as VocabularyShard.combine takes it, and sums [tokens].

        Those are of exp(z - max z), which take the place of the logits z.
        """
        nothing = logits.new_zeros(logits.shape[0])
        if not self.rows:
            return torch.stack((nothing - torch.inf, nothing, nothing)), nothing
        label = logits.gather(1, columns).squeeze(1) * mine
        total = logits.sum(-1) if self.loss.label_smoothing else nothing
        highest = logits.amax(-1, keepdim=True)
        sums = logits.sub_(highest).exp_().sum(-1)
        return torch.stack((highest.squeeze(1) + sums.log(), label, total)), sums

    def _differentiate(self, tokens: slice, slopes: Tensor, grads: _Gradients) -> None:
        """From the gradient of the logits, fp32 [tokens, rows], to those of what made them."""
        hidden = self.hidden[tokens]
        slopes = slopes.to(hidden.dtype)
        if grads.head is not None and hidden.dtype == torch.float32:
            grads.head[: self.rows].addmm_(slopes.t(), hidden)
        elif grads.head is not None:
            grads.head[: self.rows] += slopes.t() @ hidden
        torch.mm(slopes, self.head, out=grads.hidden[tokens])
