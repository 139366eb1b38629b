"""Losses of whole texts, each represented by the mean of its hidden states."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from footplate_trainer.model.inputs import Targets


def mean_pool(hidden: Tensor, documents: Tensor) -> Tensor:
    """Average each text's hidden states over its positions without padding.

    `hidden` [n, length, width], `documents` [n, length] with -1 on padding; fp32 [n, width], 0 for a sequence
    of nothing but padding.
    """
    kept = (documents >= 0).to(torch.float32)
    sums = torch.einsum("nlw,nl->nw", hidden.float(), kept)
    return sums / kept.sum(1, keepdim=True).clamp(min=1)


def summed_square_error(hidden: Tensor, head: Tensor, targets: Targets) -> Tensor:
    """Sum (predicted - target)^2 over real texts: fp64 scalar.

    The prediction is output 0 of `head` [outputs, width] for the pooled text.
    """
    given = functional.linear(mean_pool(hidden, targets.documents), head[:1].float()).squeeze(1)
    errors = (given - targets.values).double() * targets.real
    return errors.square().sum()


def embedded_pairs(hidden: Tensor, targets: Targets) -> Tensor:
    """Return unit vectors of queries and positives: fp32 [b, 2, width]."""
    unit = functional.normalize(mean_pool(hidden, targets.documents), dim=-1)
    return unit.view(-1, 2, unit.shape[1])


def info_nce(pairs: Tensor, real: Tensor, temperature: float) -> Tensor:
    """Compute InfoNCE (van den Oord et al. 2018) of each pair among all: fp32 [b], 0 where not real.

    -log of the share that a query's own positive has in softmax(cosine / temperature) over the positives of
    all real pairs; `pairs` [b, 2, width] are unit vectors, `real` bool [b].
    """
    queries, positives = pairs.unbind(1)
    likeness = queries @ positives.T / temperature
    likeness = likeness.masked_fill(~real[None, :], -torch.inf)
    own = likeness.diagonal()
    return torch.where(real, torch.logsumexp(likeness, 1) - own, 0.0)
