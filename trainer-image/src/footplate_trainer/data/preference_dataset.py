"""Pairs of answers for reward models and preference losses: both in one sequence, each attending to itself.

A comparison needs both answers at once, and a rank with a row has all of it (ADR-0041). So a pair shares a
sequence, as a rule with other pairs, and its two answers with their prompts are two documents there.

The label of a position is the next token of its own answer, where that is learnt and follows the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from footplate_contracts.v1alpha1.data import OverlongPolicy, Packing
from footplate_trainer.data.conversation_dataset import SampleSequences
from footplate_trainer.data.datasets import PACKED, Dataset
from footplate_trainer.data.mixture import Mixture
from footplate_trainer.data.order import Float64s, Int64s
from footplate_trainer.data.packing import IGNORED, Sample, filler_sample
from footplate_trainer.data.sample_shards import SampleDocument
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.model.sequence_field import (
    ANSWER,
    DESIRABLE,
    LEARNT,
    PAIRS,
    REFERENCE,
    SAMPLES,
    SequenceField,
)

MARGIN = "margin"  # among `sequence_values`: of a pair, at its chosen answer; 0 where the data has none


class PreferenceDataset(SampleSequences):
    """Sequences over samples of format preferences; a pair's chosen answer precedes the rejected one."""

    reference: Float64s | None = (
        None  # [documents]: what is known of the reference beforehand; rows then have it
    )

    @property
    def count_names(self) -> tuple[str, ...]:
        return ("tokens", PAIRS)

    def counts(self, sample: Sample) -> tuple[int, ...]:
        assert sample.sequences is not None
        return (*super().counts(sample), int(sample.sequences[:, SequenceField.SAMPLE].max()) + 1)

    def documents_of(self, sample_id: int) -> Int64s:
        """Return the shards' document index of each sequence in a row, by its number there: int64 [k]."""
        pairs = (
            self.kept.numbers[self.bins.samples(sample_id)] if sample_id >= 0 else np.empty(0, dtype=np.int64)
        )
        return (2 * pairs[:, None] + np.arange(2)).ravel()

    def get(self, sample_id: int, index: int = 0) -> Sample:
        """See Dataset; documents are numbered by their order in the sequence, two for each pair."""
        row = filler_sample(self.context_length, self.shards.special.padding)
        most = 2 * self.bins.most
        sequences = np.full((most, len(SequenceField)), -1, dtype=np.int32)
        margins = np.zeros(most, dtype=np.float32)
        sample = Sample(
            row.tokens,
            row.labels,
            row.documents,
            sequences=sequences,
            sequence_values={MARGIN: margins, **self._known(sample_id, most)},
        )
        for pair, kept in enumerate(self.bins.samples(sample_id) if sample_id >= 0 else ()):
            start = int(self.bins.start[kept])
            documents = self.samples[int(self.kept.numbers[kept])].documents
            for side, document in enumerate(documents):
                number, length = 2 * pair + side, len(document.tokens)
                place = slice(start, start + length)
                row.tokens[place], row.documents[place] = document.tokens, number
                labels = self.labels(document, side)
                row.labels[place] = labels
                sequences[number] = pair, side, document.prompt, np.count_nonzero(labels != IGNORED)
                start += length
            margins[2 * pair] = documents[0].value or 0.0
        return sample

    def labels(self, document: SampleDocument, side: int) -> Int64s:
        """Return the labels of a document, int64 [n]: the next token where it is learnt and in the answer."""
        return answer_labels(document)

    def _known(self, sample_id: int, most: int) -> Mapping[str, Float64s]:
        if self.reference is None:
            return {}
        documents = self.documents_of(sample_id)
        return {REFERENCE: np.pad(self.reference[documents], (0, most - len(documents)))}


class OrpoDataset(PreferenceDataset):
    """Pairs for ORPO, whose loss also trains the chosen answer, or with `everything` its whole sequence."""

    def __init__(
        self,
        shards: TokenShards,
        context_length: int,
        packing: Packing = PACKED,
        *,
        everything: bool = False,
        overlong: OverlongPolicy = OverlongPolicy.REFUSE,
    ) -> None:
        """Open the pairs; raises the errors of SampleSequences."""
        super().__init__(shards, context_length, packing, overlong=overlong)
        self._everything = everything

    @property
    def count_names(self) -> tuple[str, ...]:
        return (*super().count_names, LEARNT)

    def counts(self, sample: Sample) -> tuple[int, ...]:
        chosen = (sample.documents >= 0) & (sample.documents % 2 == 0)
        return (*super().counts(sample), int(np.count_nonzero(chosen & (sample.labels != IGNORED))))

    def get(self, sample_id: int, index: int = 0) -> Sample:
        """See Dataset; `token_values` mark an answer's labels."""
        sample = super().get(sample_id, index)
        answers = np.zeros(self.context_length, dtype=np.float32)
        start = 0
        for document in self._documents(sample_id):
            labels = answer_labels(document)
            answers[start : start + len(labels)] = labels != IGNORED
            start += len(labels)
        return replace(sample, token_values={ANSWER: answers})

    def labels(self, document: SampleDocument, side: int) -> Int64s:
        if side or not self._everything:
            return answer_labels(document)
        return np.append(document.tokens[1:], IGNORED)

    def _documents(self, sample_id: int) -> Iterator[SampleDocument]:
        """Yield a row's documents in order: a bin is filled from its beginning, without gaps."""
        for kept in self.bins.samples(sample_id) if sample_id >= 0 else ():
            yield from self.samples[int(self.kept.numbers[kept])].documents


def answer_labels(document: SampleDocument) -> Int64s:
    """Return the labels of a document, int64 [n]: the next token if it follows the prompt and is learnt."""
    assert document.learnt is not None, "a sample with answers has a mask"
    answers = document.learnt & (np.arange(len(document.tokens)) >= document.prompt)
    labels = np.full(len(document.tokens), IGNORED, dtype=np.int64)
    labels[:-1] = np.where(answers[1:], document.tokens[1:], IGNORED)
    return labels


def pair_datasets(dataset: Dataset) -> list[PreferenceDataset]:
    """Return the data sets of pairs in `dataset`."""
    if isinstance(dataset, Mixture):
        return [found for source in dataset.sources for found in pair_datasets(source.dataset)]
    assert isinstance(dataset, PreferenceDataset), type(dataset)
    return [dataset]


class RatingDataset(SampleSequences):
    """Samples of format ratings, for KTO, in two sequences each, with its own and another's answer.

    Side 1 shows the model's divergence from its reference: the prompt with the answer of the sample before it
    in the step, the first one's with that of the last. So the step alone decides, and no layout.
    """

    def __init__(
        self, shards: TokenShards, context_length: int, *, overlong: OverlongPolicy = OverlongPolicy.REFUSE
    ) -> None:
        """Open the samples; raises the errors of SampleSequences."""
        super().__init__(shards, context_length, Packing(enabled=False), overlong=overlong)

    @property
    def count_names(self) -> tuple[str, ...]:
        return ("tokens", SAMPLES)

    def counts(self, sample: Sample) -> tuple[int, ...]:
        """See Dataset; tokens are the labels of the rated answer."""
        assert sample.sequences is not None
        rated = sample.sequences[0, 0]
        return max(0, int(rated[SequenceField.LABELS])), int(rated[SequenceField.SAMPLE] >= 0)

    def document_for_next(self, sample_id: int) -> SampleDocument | None:
        return self._document(sample_id)

    def get(self, sample_id: int, index: int = 0) -> Sample:
        """See Dataset; a single sample has its own answer in both sequences."""
        return self.get_with_document(
            sample_id, index, self.document_for_next(sample_id) if sample_id >= 0 else None
        )

    def get_with_document(self, sample_id: int, index: int, handed: SampleDocument | None) -> Sample:
        """See Dataset; a sequence that is too long with the other answer is cut at its end."""
        filler = filler_sample(self.context_length, self.shards.special.padding)
        tokens, labels = np.stack([filler.tokens] * 2), np.stack([filler.labels] * 2)
        documents = np.stack([filler.documents] * 2)
        sequences = np.full((2, 1, len(SequenceField)), -1, dtype=np.int32)
        desirable = np.zeros((2, 1), dtype=np.float32)
        if sample_id >= 0:
            assert handed is not None, "each sample of a step returns its answer"
            rated = self._document(sample_id)
            desirable[0] = rated.value or 0.0
            for side, document in enumerate((rated, _with_answer(rated, handed, self.context_length))):
                length = len(document.tokens)
                tokens[side, :length], documents[side, :length] = document.tokens, 0
                labels[side, :length] = answer_labels(document)
                sequences[side, 0] = 0, side, document.prompt, np.count_nonzero(labels[side] != IGNORED)
        return Sample(tokens, labels, documents, sequences=sequences, sequence_values={DESIRABLE: desirable})

    def _document(self, sample_id: int) -> SampleDocument:
        return self.samples[int(self.kept.numbers[sample_id])].documents[0]


def _with_answer(asked: SampleDocument, other: SampleDocument, most: int) -> SampleDocument:
    """Join the prompt of `asked` with the answer of `other`, at most `most` tokens."""
    assert asked.learnt is not None and other.learnt is not None
    tokens, learnt = (
        np.concatenate((own[: asked.prompt], theirs[other.prompt :]))[:most]
        for own, theirs in ((asked.tokens, other.tokens), (asked.learnt, other.learnt))
    )
    return SampleDocument(tokens, learnt, asked.prompt)
