"""Counts and lengths of T5's span corruption: before any text exists. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.data import MaskingName

SENTINELS: Final = 100  # ids that each stand for one span
# Beyond this the encoder would read hardly anything; it also bounds the search for a length.
_LONGEST_SPAN: Final = 16


@dataclass(frozen=True)
class SpanPlan:
    """Lengths of span corruption, the same for each full span."""

    probability: float
    mean_span: float
    span_length: int  # tokens before corruption
    inputs: int  # S, of the encoder
    targets: int  # T, of the decoder

    def counts(self, length: int) -> tuple[int, int]:
        """Return (hidden tokens, spans) in `length` tokens."""
        return span_counts(length, self.probability, self.mean_span)


def span_counts(length: int, probability: float, mean_span: float) -> tuple[int, int]:
    """Return (hidden tokens, spans) in `length` tokens; nothing is hidden in fewer than two."""
    if length < 2:
        return 0, 0
    hidden = min(max(round(length * probability), 1), length - 1)
    return hidden, min(max(round(hidden / mean_span), 1), hidden, length - hidden)


def plan_spans(context_length: int, probability: float, mean_span: float) -> SpanPlan:
    """Return the longest span whose corruption fits into `context_length`, one eos included.

    ValueError when it would need more spans than there are sentinels.
    """

    def inputs(length: int) -> int:
        hidden, spans = span_counts(length, probability, mean_span)
        return length - hidden + spans + 1

    span_length = 1
    while inputs(span_length + 1) <= context_length and span_length < _LONGEST_SPAN * context_length:
        span_length += 1
    hidden, spans = span_counts(span_length, probability, mean_span)
    if spans > SENTINELS:
        raise ValueError(
            f"masking span: contextLength {context_length} with probability {probability:g} and "
            f"meanSpanLength {mean_span:g} hides {spans} spans, and there are {SENTINELS} sentinels; "
            "raise meanSpanLength or lower contextLength"
        )
    return SpanPlan(probability, mean_span, span_length, context_length, hidden + spans + 1)


def decoder_length(config: RunConfig) -> int:
    """Return the tokens of a decoder's sequence behind an encoder; 0 where there is none."""
    masking = config.data.masking
    if masking is None or masking.name is not MaskingName.SPAN:
        return 0
    return plan_spans(config.model.context_length, masking.probability, masking.mean_span_length).targets
