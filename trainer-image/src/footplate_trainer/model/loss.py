"""Cross-entropy over a large vocabulary, without storing all logits.

Hidden states go through the output head in chunks of tokens (`head_chunks`), and each chunk's gradients are
computed while its logits are still in the cache. The result is a sum, because only the caller has the global
number of valid tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from footplate_planning.memory import loss_chunk
from footplate_trainer.model.head_chunks import (
    CPU_PIECE_BYTES,
    IGNORED,
    HeadChunks,
    HeadGradients,
    StoredGradients,
    VocabularyShard,
    cut_into_slices,
)


@dataclass(frozen=True)
class TokenLoss:
    """Loss at each valid position, over logits z and their log-normaliser Z.

    Z - (1 - s) z[label] - s mean(z) + w Z^2, with smoothing s (Szegedy et al. 2016) and z-loss w (Chowdhery
    et al. 2022), which keeps Z near 0.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0


def summed_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    loss: TokenLoss = TokenLoss(),
    *,
    vocabulary: VocabularyShard | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Return the sum of `loss` over valid positions: fp64 scalar.

    `hidden` [..., hidden] and `head` [rows, hidden] of any float dtype, the logits hidden @ head.T being fp32
    from there on; `labels` int64 [...] with IGNORED where there is nothing to predict. `chunk` is the number
    of tokens at once.

    Where ranks share the head's rows (`vocabulary`), the value is the whole loss on every rank, the head's
    gradient is that of the local rows, and the gradient of `hidden` is the part through these rows: the
    caller sums it over the ranks.
    """
    vocabulary = vocabulary or VocabularyShard(head.shape[0])
    flat = hidden.flatten(0, -2)
    chunk = chunk or loss_chunk(head.shape[0], head.device.type)
    differentiate = torch.is_grad_enabled()
    summed: Tensor = _Chunked.apply(flat, head, labels.flatten(), loss, vocabulary, chunk, differentiate)
    return summed


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
        grads = HeadGradients.zeros(hidden, head, of_head=ctx.needs_input_grad[1]) if differentiate else None
        for tokens in cut_into_slices(hidden.shape[0], chunk):
            total += chunks.add(tokens, labels[tokens], grads)
        ctx.kept = StoredGradients(grads)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*ctx.kept.scaled_by(gradient), None, None, None, None, None)


class _Chunks(HeadChunks):
    """Computation of one chunk's losses and gradients."""

    def __init__(
        self,
        hidden: Tensor,
        head: Tensor,
        loss: TokenLoss,
        vocabulary: VocabularyShard,
        chunk: int,
    ) -> None:
        super().__init__(hidden, head, vocabulary, chunk)
        self.loss = loss
        # Each piece costs a collective where the vocabulary is shared.
        whole = hidden.device.type != "cpu" or vocabulary.gather is not None
        self._piece = chunk if whole else max(1, CPU_PIECE_BYTES // (4 * max(1, self.rows)))

    def add(self, tokens: slice, labels: Tensor, grads: HeadGradients | None) -> Tensor:
        """Return this chunk's sum, fp64; add its gradients to `grads`."""
        logits = self.logits(tokens)
        cut = cut_into_slices(len(logits), self._piece)
        losses = [self._settle(logits[piece], labels[piece], grads is not None) for piece in cut]
        if grads is not None:
            self.differentiate(tokens, logits, grads)
        return torch.cat(losses).double().sum()

    def _settle(self, logits: Tensor, labels: Tensor, differentiate: bool) -> Tensor:
        """Return losses, fp32 [tokens], of fp32 logits [tokens, rows], which become their own gradients."""
        valid = labels != IGNORED
        mine, columns = self.label_columns(labels)
        here, sums = self._statistics(logits, columns, mine)
        normaliser, label, total = self._everywhere(here)
        smoothing, share = self.loss.label_smoothing, self.loss.label_smoothing / self.vocabulary.size
        each = normaliser - (1 - smoothing) * label - share * total + self.loss.z_loss * normaliser.square()
        if differentiate and self.rows:
            # d/dz = softmax (1 + 2 w Z) - (1 - s) [label] - s / size
            slope = valid * (1 + 2 * self.loss.z_loss * normaliser) * torch.exp(here[0] - normaliser) / sums
            logits.mul_(slope[:, None])
            if share:
                logits.sub_((valid * share)[:, None])
            logits.scatter_add_(1, columns, (mine * (smoothing - 1.0))[:, None])
        return torch.where(valid, each, 0.0)

    def _statistics(self, logits: Tensor, columns: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        """Compute statistics over the local rows: fp32 [3, tokens], and sums [tokens].

        The three are log-normaliser, logit of the label or 0, and sum of logits; the sums are of exp(z - max
        z), which overwrite the logits z.
        """
        nothing = logits.new_zeros(logits.shape[0])
        if not self.rows:
            return torch.stack((nothing - torch.inf, nothing, nothing)), nothing
        label = logits.gather(1, columns).squeeze(1) * mine
        total = logits.sum(-1) if self.loss.label_smoothing else nothing
        highest = logits.amax(-1, keepdim=True)
        sums = logits.sub_(highest).exp_().sum(-1)
        return torch.stack((highest.squeeze(1) + sums.log(), label, total)), sums

    def _everywhere(self, here: Tensor) -> Tensor:
        """Combine the three statistics of all ranks, fp32 [3, tokens]."""
        if self.vocabulary.gather is None:
            return here
        normalisers, labels, totals = self.vocabulary.gather(here).unbind(1)
        return torch.stack((normalisers.logsumexp(0), labels.sum(0), totals.sum(0)))
