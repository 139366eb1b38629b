"""Next-token cross-entropy as a sum, because only the caller knows the global token count."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

IGNORED = -100
"""Label of a position that has no target."""


def summed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over valid positions, fp32 scalar, of -log softmax(logits)[label].

    `logits` [batch, length, vocabulary] of any float dtype, `labels` int64
    [batch, length] with IGNORED where there is nothing to predict.
    """
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
