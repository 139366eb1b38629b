"""What a loss may look at beside hidden states: one micro-batch of b samples in n sequences."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """n = b, but for pairs 2b: sequence 2i is a query, 2i + 1 its positive."""

    labels: Tensor  # int64 [n, length], IGNORED where nothing is to be predicted
    documents: Tensor  # int32 [n, length], -1 on padding
    values: Tensor  # fp32 [b], what a regression should give
    real: Tensor  # bool [b], False for samples that only even out the ranks
