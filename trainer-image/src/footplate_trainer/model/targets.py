"""Inputs of a loss besides hidden states: one micro-batch of b samples in n sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Labels and values of a micro-batch; n = b, but 2b for pairs: sequence 2i a query, 2i + 1 its positive.

    A context rank has labels of some positions only; all else is of whole rows.
    """

    labels: Tensor  # int64 [n, length], IGNORED where nothing is to be predicted
    documents: Tensor  # int32 [n, length], -1 on padding
    values: Tensor  # fp32 [b], what a regression should give
    real: Tensor  # bool [b], False for samples that only even out the ranks
    positions: Tensor | None = None  # int64, those of `labels` in the row; None: all
    sequences: Tensor | None = None  # int32 [n, D, 4], see SequenceField
    token_values: Mapping[str, Tensor] = field(default_factory=dict)  # fp32 [n, length] each, by label
    sequence_values: Mapping[str, Tensor] = field(default_factory=dict)  # fp32 or fp64 [n, D] each
