"""Inputs of a pass through the network, hidden states between blocks, and inputs that all blocks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from footplate_trainer.model.dropout import DropoutSeed

States = tuple[Tensor, ...]
"""What travels from block to block, [batch, length, hidden] each; floats only: it may go to other ranks."""


@dataclass(frozen=True)
class Inputs:
    """A micro-batch without its activations; every pipeline stage gets the same."""

    tokens: Tensor  # int64 [batch, length]
    documents: Tensor | None = None  # [batch, length]: attention stays within one; None: there is one
    positions: Tensor | None = None  # int64 [length] in the sequence; None: 0, 1, 2, …
    decoder_tokens: Tensor | None = None  # what the decoder behind an encoder reads, int64 [batch, length]
    decoder_documents: Tensor | None = None  # of decoder_tokens, numbered as `documents`
    dropout_seed: DropoutSeed | None = None  # decides what is dropped; needed in training where anything is


@dataclass(frozen=True)
class BlockInputs:
    """The inputs that all blocks of a chain share in one pass."""

    # What the network's `attention_mask` says to attention's `attend`; they agree between themselves.
    mask: Any
    rotary: tuple[Tensor, Tensor] | None = None  # tables over the positions of x
    dropout_seed: DropoutSeed | None = None
    positions: Tensor | None = None  # as in Inputs


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
