"""Corruption of texts for masked language modelling and span corruption.

Masked language modelling (Devlin et al., BERT, NAACL 2019, section 3.1): of the tokens that are drawn, 80 %
become the mask token, 10 % any other token and 10 % stay; the label is the original token. Span corruption
(Raffel et al., T5, JMLR 2020, section 3.1.4): drawn spans are replaced by one sentinel each, and the
decoder's target is each sentinel followed by the tokens that it replaces.

All functions are pure; random numbers are an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from footplate_planning.span_corruption import SpanPlan
from footplate_trainer.data.layout import SpecialIds
from footplate_trainer.data.order import Float64s, Int64s
from footplate_trainer.data.packing import IGNORED, PADDING_DOCUMENT, Int32s, Sample, TokenSpan, padded

MASKED: Final = 0.8
REPLACED: Final = 0.1


Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Vocabulary:
    """The ids that BERT's corruption may write: the mask, or any id that is not reserved."""

    mask: int
    padding: int
    ordinary: Int64s  # every id that is not reserved
    reserved: Bools  # [ids]

    @classmethod
    def of(cls, special: SpecialIds, size: int, mask: int) -> Vocabulary:
        """Build the vocabulary of ids 0 … size - 1."""
        reserved = np.zeros(size, dtype=np.bool_)
        reserved[special.all()] = True
        return cls(mask, special.padding, np.flatnonzero(~reserved), reserved)


@dataclass(frozen=True)
class SpanIds:
    """The ids that T5's corruption writes between the tokens of a text."""

    pad: int  # starts a decoder
    eos: int  # ends what the encoder reads, and what the decoder says
    sentinels: Int64s  # in the order of their use


def masked_sample(
    span: TokenSpan, vocabulary: Vocabulary, probability: float, draws: Float64s, context_length: int
) -> Sample:
    """Corrupt a span of n <= S tokens as BERT does; `draws` is [3, n]. Reserved ids are never drawn."""
    drawn, kind, other = draws
    tokens = span.tokens.copy()
    hidden = (drawn < probability) & ~vocabulary.reserved[tokens]
    labels = np.where(hidden, tokens, IGNORED)
    tokens[hidden & (kind < MASKED)] = vocabulary.mask
    replaced = hidden & (kind >= MASKED) & (kind < MASKED + REPLACED)
    ordinary = vocabulary.ordinary
    tokens[replaced] = ordinary[(other[replaced] * len(ordinary)).astype(np.int64)]
    return Sample(
        padded(tokens, context_length, vocabulary.padding),
        padded(labels, context_length, IGNORED),
        padded(span.documents, context_length, PADDING_DOCUMENT),
    )


def span_sample(span: TokenSpan, ids: SpanIds, plan: SpanPlan, draws: Float64s) -> Sample:
    """Corrupt a span of n <= plan.span_length tokens as T5 does; `draws` is [2, plan.span_length].

    A hidden span belongs to the document of its first token, so a decoder's token always finds its sentinel
    in its own document.
    """
    length = len(span.tokens)
    number, starts = _spans(length, plan, draws)
    hidden = number >= 0
    owners = span.documents.copy()
    owners[hidden] = span.documents[starts][number[hidden]]
    kept = ~hidden
    kept[starts] = True
    inputs = np.where(hidden, ids.sentinels[number], span.tokens)[kept]
    # Before each span's tokens its sentinel; numbers ascend along the span.
    where = np.flatnonzero(hidden)
    first = np.searchsorted(where, starts)
    targets = np.insert(span.tokens[where], first, ids.sentinels[: len(starts)])
    speakers = np.insert(owners[where], first, owners[starts])
    last = owners[-1:]
    return _encoder_decoder(
        np.append(inputs, ids.eos),
        np.append(owners[kept], last),
        np.append(targets, ids.eos),
        np.append(speakers, last),
        ids.pad,
        plan,
    )


def span_filler(plan: SpanPlan, pad: int) -> Sample:
    """Return a sample without weight, in the shapes of the others."""
    nothing, nowhere = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
    return _encoder_decoder(nothing, nowhere, nothing, nowhere, pad, plan)


def _encoder_decoder(
    inputs: Int64s, documents: Int32s, targets: Int64s, speakers: Int32s, pad: int, plan: SpanPlan
) -> Sample:
    labels = padded(targets, plan.targets, IGNORED)
    decoder = np.full(plan.targets, pad, dtype=np.int64)  # T5 starts a decoder with pad
    decoder[1 : len(targets)] = targets[:-1]
    return Sample(
        padded(inputs, plan.inputs, pad),
        labels,
        padded(documents, plan.inputs, PADDING_DOCUMENT),
        decoder_tokens=decoder,
        decoder_documents=padded(speakers, plan.targets, PADDING_DOCUMENT),
    )


def _spans(length: int, plan: SpanPlan, draws: Float64s) -> tuple[Int64s, Int64s]:
    """Return for each position its span's number or -1, int64 [length], and the start of each span."""
    hidden, spans = plan.counts(length)
    number = np.full(length, -1, dtype=np.int64)
    if spans == 0:
        return number, np.empty(0, dtype=np.int64)
    # Kept and hidden parts take turns. T5's own code begins with a kept part and ends with a hidden one,
    # so that the last token is always hidden; here a kept part stands at both ends and may be empty.
    kept_parts = _parts(length - hidden + 2, spans + 1, draws[0])
    hidden_parts = _parts(hidden, spans, draws[1])
    starts = np.cumsum(kept_parts[:-1] + hidden_parts) - 1 - hidden_parts
    numbers = np.arange(spans)
    within = np.arange(hidden) - np.repeat(np.cumsum(hidden_parts) - hidden_parts, hidden_parts)
    number[np.repeat(starts, hidden_parts) + within] = np.repeat(numbers, hidden_parts)
    return number, starts


def _parts(total: int, parts: int, draws: Float64s) -> Int64s:
    """Split `total` into `parts` numbers >= 1, all ways being equally likely: int64 [parts]."""
    cuts = np.sort(np.argsort(draws[: total - 1], kind="stable")[: parts - 1]) + 1
    return np.diff(np.concatenate(([0], cuts, [total])))
