"""Data sets: the samples of each kind of data for each training objective.

A data set has a length and builds the sample of an id. Random masks depend on the sample's index in the
endless order, so that the next epoch hides other tokens and any rank hides the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from footplate_contracts.v1alpha1.data import Masking, Packing
from footplate_planning.span_corruption import plan_spans
from footplate_trainer.data import order
from footplate_trainer.data.layout import SpecialTokenRole
from footplate_trainer.data.masking import SpanIds, Vocabulary, masked_sample, span_filler, span_sample
from footplate_trainer.data.order import Int64s, uniforms
from footplate_trainer.data.packing import (
    IGNORED,
    Sample,
    TokenSpan,
    document_numbers,
    document_sample,
    filler_sample,
    packed_sample,
    whole_text,
    window_count,
    window_span,
)
from footplate_trainer.data.sample_shards import SampleDocument
from footplate_trainer.data.shards import TokenShards

PACKED: Final = Packing()
_SPAN: Final = "data.masking span"


class Dataset(ABC):
    """Samples by id, and their order: one permutation after the other."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples in one epoch."""

    @abstractmethod
    def get(self, sample_id: int, index: int = 0) -> Sample:
        """Return sample `sample_id`, used at global `index`; a negative id is a filler without weight."""

    def document_for_next(self, sample_id: int) -> SampleDocument | None:
        """Return the document of a sample that the next sample in its step needs; None if none is needed."""
        return None

    def get_with_document(self, sample_id: int, index: int, handed: SampleDocument | None) -> Sample:
        """Return the sample as `get` does, built with `handed`, the preceding sample's `document_for_next`.

        The first sample of a step is preceded by its last.
        """
        return self.get(sample_id, index)

    def arrange_micro_batches(self, ids: Int64s, places: Int64s) -> Int64s:
        """Group one rank's `places` of a step's `ids`, FILLER among them, into its best micro-batches.

        Returns int64 [micro-batches, samples], as the input: a step's loss and gradient are sums over all of
        it.
        """
        del ids
        return places

    def positions_by_width(self, ids: Int64s, ranks: Sequence[Int64s]) -> Mapping[int, int]:
        """Count the positions that all `ranks` compute of a step's `ids`, by row width.

        Each of `ranks` is an argument of `arrange_micro_batches`. Empty where all rows are as wide as the
        context.
        """
        del ids, ranks
        return {}

    def pad_to_equal_width(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        """Return the samples of one micro-batch, with rows of equal width."""
        return samples

    def __str__(self) -> str:
        """Return a log text about how the samples were built; empty if there is nothing to report."""
        return ""

    def sample_ids(self, seed: int, indices: Int64s) -> Int64s:
        """Return the samples at global `indices` of the endless order: int64 [k]."""
        return order.sample_ids(seed, indices, len(self))

    @property
    def count_names(self) -> tuple[str, ...]:
        """The names of a step's counts; a metrics row reports the first as tokens."""
        return ("tokens",)

    def counts(self, sample: Sample) -> tuple[int, ...]:
        """Return the amounts that a real `sample` adds to each count: tokens are its labels that count.

        A step's loss is divided by one of them, as a rule by the first.
        """
        return (int(np.count_nonzero(sample.labels != IGNORED)),)


class SequenceDataset(Dataset):
    """Sequences of `context_length` tokens over packed shards; each token predicts the next."""

    def __init__(self, shards: TokenShards, context_length: int, packing: Packing = PACKED) -> None:
        self.shards = shards
        self.context_length = context_length
        self._packing = packing
        if len(self) == 0:
            raise ValueError(
                f"the shards in {shards.uri} hold {shards.tokens} tokens, fewer than one sequence: "
                f"contextLength {context_length} needs {self.stride + 1}"
            )

    @property
    def stride(self) -> int:
        """The number of tokens from the start of one packed sequence to the next."""
        return self.context_length

    def __len__(self) -> int:
        """Return the number of samples in one epoch."""
        if self._packing.enabled:
            return window_count(self.shards.tokens, self.stride)
        return self.shards.documents

    def get(self, sample_id: int, index: int = 0) -> Sample:
        if sample_id < 0:
            return filler_sample(self.context_length, self.shards.special.padding)
        if not self._packing.enabled:
            tokens = self.shards.document(sample_id, self.context_length + 1)
            return document_sample(tokens, self.context_length, self.shards.special.padding)
        start, stop = window_span(sample_id, self.context_length)
        ends = self.shards.document_ends(start, stop) - start
        return packed_sample(
            self.shards.read(start, stop),
            ends,
            cross_document_attention=self._packing.cross_document_attention,
        )

    def token_span(self, sample_id: int) -> TokenSpan:
        """Return the tokens of a sample before they are corrupted, at most `stride`."""
        if not self._packing.enabled:
            tokens = self.shards.document(sample_id, self.stride)
            return TokenSpan(tokens, np.zeros(len(tokens), dtype=np.int32))
        start = sample_id * self.stride
        tokens = self.shards.read(start, start + self.stride)
        if self._packing.cross_document_attention:
            return TokenSpan(tokens, np.zeros(len(tokens), dtype=np.int32))
        ends = self.shards.document_ends(start, start + self.stride) - start
        return TokenSpan(tokens, document_numbers(ends, len(tokens)))


class MaskedDataset(SequenceDataset):
    """Sequences with masked tokens, which BERT predicts."""

    def __init__(
        self, shards: TokenShards, context_length: int, packing: Packing, masking: Masking, seed: int
    ) -> None:
        super().__init__(shards, context_length, packing)
        self._seed = seed
        self._probability = masking.probability
        mask = shards.require_id(SpecialTokenRole.MASK, "data.masking mlm")
        self._vocabulary = Vocabulary.of(shards.special, shards.vocabulary_size, mask)

    def get(self, sample_id: int, index: int = 0) -> Sample:
        if sample_id < 0:
            return super().get(sample_id)
        span = self.token_span(sample_id)
        length = len(span.tokens)
        draws = uniforms(self._seed, "mask", index, 3 * length).reshape(3, length)
        return masked_sample(span, self._vocabulary, self._probability, draws, self.context_length)


class SpanDataset(SequenceDataset):
    """Sequences without some spans, which T5 predicts."""

    def __init__(
        self, shards: TokenShards, context_length: int, packing: Packing, masking: Masking, seed: int
    ) -> None:
        self._seed = seed
        self.plan = plan_spans(context_length, masking.probability, masking.mean_span_length)
        pad, eos = (shards.require_id(role, _SPAN) for role in (SpecialTokenRole.PAD, SpecialTokenRole.EOS))
        self._ids = SpanIds(
            pad, eos, np.array(shards.require_ids(SpecialTokenRole.SENTINELS, _SPAN), dtype=np.int64)
        )
        super().__init__(shards, context_length, packing)

    @property
    def stride(self) -> int:
        """The number of tokens of a sample, more than the context: a hidden span shrinks to one sentinel."""
        return self.plan.span_length

    def get(self, sample_id: int, index: int = 0) -> Sample:
        if sample_id < 0:
            return span_filler(self.plan, self._ids.pad)
        draws = uniforms(self._seed, "span", index, 2 * self.stride).reshape(2, self.stride)
        return span_sample(self.token_span(sample_id), self._ids, self.plan, draws)


class _WholeTexts(Dataset):
    """Texts that a model reads and does not predict."""

    def __init__(self, shards: TokenShards, context_length: int) -> None:
        self.shards = shards
        self.context_length = context_length

    @property
    def count_names(self) -> tuple[str, ...]:
        return ("texts",)

    def counts(self, sample: Sample) -> tuple[int, ...]:
        """Count each sample once, a pair too."""
        return (1,)


class PairDataset(_WholeTexts):
    """Pairs of texts that belong together: documents 2i and 2i + 1."""

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self.shards.documents // 2

    def get(self, sample_id: int, index: int = 0) -> Sample:
        """See Dataset; arrays are [2, S], and no label counts."""
        size, pad = self.context_length, self.shards.special.padding
        if sample_id < 0:
            filler = filler_sample(size, pad)
            halves = [(filler.tokens, filler.documents)] * 2
        else:
            texts = (self.shards.document(2 * sample_id + half) for half in (0, 1))
            halves = [whole_text(tokens, size, pad) for tokens in texts]
        tokens, documents = (np.stack(arrays) for arrays in zip(*halves, strict=True))
        return Sample(tokens, np.full_like(tokens, IGNORED), documents)


class RegressionDataset(_WholeTexts):
    """Texts, each with its target value."""

    def __len__(self) -> int:
        """Return the number of texts."""
        return self.shards.documents

    def get(self, sample_id: int, index: int = 0) -> Sample:
        """See Dataset; no label counts."""
        size, pad = self.context_length, self.shards.special.padding
        if sample_id < 0:
            return filler_sample(size, pad)
        tokens, documents = whole_text(self.shards.document(sample_id), size, pad)
        value = self.shards.value(sample_id)
        return Sample(tokens, np.full_like(tokens, IGNORED), documents, value=value)
