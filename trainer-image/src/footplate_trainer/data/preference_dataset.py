"""Pairs of answers as reward models and preferences learn from them: both in one sequence, each by itself.

What compares two answers has to see both at once, and whoever has a row has all of it (ADR-0041). So a pair
shares a sequence, as a rule with other pairs, and its two answers with their prompts are two documents there.
The label of a place is the next token of its own answer, where that is learnt and stands behind the prompt.
"""

from __future__ import annotations

import numpy as np

from footplate_trainer.data.conversation_dataset import SampleSequences
from footplate_trainer.data.order import Int64s
from footplate_trainer.data.packing import IGNORED, Sample, filler_sample
from footplate_trainer.data.samples import SampleDocument
from footplate_trainer.model.sequence_field import SequenceField

MARGIN = "margin"  # among `sequence_values`: of a pair, at its chosen answer; 0 where the data has none


class PreferenceDataset(SampleSequences):
    """Those of format preferences; the chosen answer of a pair stands before the rejected one."""

    @property
    def count_names(self) -> tuple[str, ...]:
        """See Dataset."""
        return ("tokens", "pairs")

    def counts(self, sample: Sample) -> tuple[int, ...]:
        """See Dataset."""
        assert sample.sequences is not None
        return (*super().counts(sample), int(sample.sequences[:, SequenceField.SAMPLE].max()) + 1)

    def get(self, sample_id: int, index: int = 0) -> Sample:
        """See Dataset; documents are numbered as they lie in the sequence, two for each pair."""
        row = filler_sample(self.context_length, self.shards.special.padding)
        most = 2 * self.bins.most
        sequences = np.full((most, len(SequenceField)), -1, dtype=np.int32)
        margins = np.zeros(most, dtype=np.float32)
        sample = Sample(
            row.tokens,
            row.labels,
            row.documents,
            sequences=sequences,
            sequence_values={MARGIN: margins},
        )
        for pair, kept in enumerate(self.bins.samples(sample_id) if sample_id >= 0 else ()):
            start = int(self.bins.start[kept])
            documents = self.samples[int(self.kept.numbers[kept])].documents
            for side, document in enumerate(documents):
                number, length = 2 * pair + side, len(document.tokens)
                place = slice(start, start + length)
                row.tokens[place], row.documents[place] = document.tokens, number
                labels = _labels(document)
                row.labels[place] = labels
                sequences[number] = pair, side, document.prompt, np.count_nonzero(labels != IGNORED)
                start += length
            margins[2 * pair] = documents[0].value or 0.0
        return sample


def _labels(document: SampleDocument) -> Int64s:
    """int64 [n]: the next token where it answers and is learnt."""
    assert document.learnt is not None, "a sample of format preferences says what is learnt"
    answers = document.learnt & (np.arange(len(document.tokens)) >= document.prompt)
    labels = np.full(len(document.tokens), IGNORED, dtype=np.int64)
    labels[:-1] = np.where(answers[1:], document.tokens[1:], IGNORED)
    return labels
