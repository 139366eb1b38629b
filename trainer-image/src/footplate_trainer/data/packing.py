"""Cuts sequences from the token stream and masks their labels.

Documents are rarely as long as the context. Packed, they are laid end to end and cut into windows of S + 1
tokens: nothing is wasted, but a window may hold the end of one document and the start of the next. Unless the
run allows attention across documents, each token carries its document's number (attention is masked
block-diagonally with it) and the label that would predict the next document's first token is ignored.
Unpacked, a sequence is one document, cut or padded. Encoders and encoder-decoders corrupt such a span (see
`masking`); a text of a pair or with a value is compared or measured whole, and is a sequence without labels.

All functions here are pure; S is the context length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from footplate_trainer.data.order import Int64s

IGNORED: Final = -100  # torch's cross_entropy default for ignore_index
PADDING_DOCUMENT: Final = -1

Int32s = NDArray[np.int32]
Float32s = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]  # fp32 or fp64
Integer = TypeVar("Integer", bound=np.integer[Any])


@dataclass(frozen=True, slots=True)
class Sample:
    """The inputs and labels of a sequence, and the limits of its attention."""

    tokens: Int64s  # [S]; where it is two sequences [2, S], and all below has two rows
    labels: Int64s  # as tokens, or [T] beside decoder_tokens: what is to be predicted there, or IGNORED
    documents: Int32s  # as tokens: equal where attention is allowed; PADDING_DOCUMENT on padding
    decoder_tokens: Int64s | None = None  # [T], an encoder-decoder's second input
    decoder_documents: Int32s | None = None  # [T], in the numbers of `documents`
    value: float = 0.0  # what a regression should give
    sequences: Int32s | None = None  # [D, 4], see SequenceField: by number of a document, -1 beyond the last
    token_values: Mapping[str, Float32s] = field(default_factory=dict)  # [S] each, of the label at a place
    sequence_values: Mapping[str, Floats] = field(default_factory=dict)  # [D] each


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Consecutive tokens of one or more documents, before they are corrupted."""

    tokens: Int64s  # [n]
    documents: Int32s  # [n], ascending from 0


def window_count(total_tokens: int, context_length: int) -> int:
    """Return the number of whole windows in the stream.

    A window has S + 1 tokens and shares one with the next.
    """
    return max(0, (total_tokens - 1) // context_length)


def window_span(index: int, context_length: int) -> tuple[int, int]:
    """Return the global token positions [start, stop) of window `index`: S + 1 tokens."""
    start = index * context_length
    return start, start + context_length + 1


def packed_sample(tokens: Int64s, ends: Int64s, *, cross_document_attention: bool) -> Sample:
    """Return the sample of one window.

    `tokens` int64 [S + 1]; `ends` int64 [k], ascending, the positions within the window (1 … S) where a
    document ends and the next begins.
    """
    inputs, labels = tokens[:-1].copy(), tokens[1:].copy()
    if cross_document_attention:
        return Sample(inputs, labels, np.zeros(len(inputs), dtype=np.int32))
    labels[ends - 1] = IGNORED
    return Sample(inputs, labels, document_numbers(ends, len(inputs)))


def document_numbers(ends: Int64s, length: int) -> Int32s:
    """Return the document number of each of `length` positions.

    A document ends before each position of `ends`.
    """
    return np.searchsorted(ends, np.arange(length), side="right").astype(np.int32)


def document_sample(tokens: Int64s, context_length: int, pad: int) -> Sample:
    """Return the sample of one document, int64 [any length >= 1], cut to S + 1 tokens or padded."""
    inputs, labels = tokens[:context_length], tokens[1 : context_length + 1]
    return Sample(
        padded(inputs, context_length, pad),
        padded(labels, context_length, IGNORED),
        _one_document(len(inputs), context_length),
    )


def padded(values: NDArray[Integer], length: int, fill: int) -> NDArray[Integer]:
    """Return `values` [at most `length`] followed by `fill`: [length], of their type."""
    out = np.full(length, fill, dtype=values.dtype)
    out[: len(values)] = values
    return out


def whole_text(tokens: Int64s, context_length: int, pad: int) -> tuple[Int64s, Int32s]:
    """Return tokens and documents, [S] each, of a text that a model reads and does not predict.

    `tokens` int64 [any length >= 1] ends with eos, and still does when it is cut.
    """
    kept = tokens[:context_length].copy()
    kept[-1] = tokens[-1]
    return padded(kept, context_length, pad), _one_document(len(kept), context_length)


def filler_sample(context_length: int, pad: int) -> Sample:
    """Return a sequence without weight: no label counts."""
    return Sample(
        np.full(context_length, pad, dtype=np.int64),
        np.full(context_length, IGNORED, dtype=np.int64),
        np.full(context_length, PADDING_DOCUMENT, dtype=np.int32),
    )


def _one_document(length: int, context_length: int) -> Int32s:
    """Return `length` positions of one document, then padding."""
    return padded(np.zeros(length, dtype=np.int32), context_length, PADDING_DOCUMENT)
