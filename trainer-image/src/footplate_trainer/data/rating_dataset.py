"""Rated answers for KTO: each, and its prompt with the answer of another sample of the step.

Answers that do not belong to their prompts show the model's divergence from its reference. A sample's prompt
is joined with the answer of the sample before it in the step, the first one's with that of the last: so the
step alone decides, and no layout.
"""

from __future__ import annotations

import numpy as np

from footplate_contracts.v1alpha1.data import OverlongPolicy, Packing
from footplate_trainer.data.conversation_dataset import SampleSequences
from footplate_trainer.data.packing import IGNORED, Sample, filler_sample
from footplate_trainer.data.preference_dataset import answer_labels
from footplate_trainer.data.sample_shards import SampleDocument
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.model.sequence_field import DESIRABLE, SAMPLES, SequenceField


class RatingDataset(SampleSequences):
    """Samples of format ratings in two sequences each: side 0 with its own answer, side 1 with another's."""

    def __init__(
        self, shards: TokenShards, context_length: int, *, overlong: OverlongPolicy = OverlongPolicy.REFUSE
    ) -> None:
        """Open the samples; raises the errors of SampleSequences."""
        super().__init__(shards, context_length, Packing(enabled=False), overlong=overlong)

    @property
    def count_names(self) -> tuple[str, ...]:
        """See Dataset."""
        return ("tokens", SAMPLES)

    def counts(self, sample: Sample) -> tuple[int, ...]:
        """See Dataset; tokens are the labels of the rated answer."""
        assert sample.sequences is not None
        rated = sample.sequences[0, 0]
        return max(0, int(rated[SequenceField.LABELS])), int(rated[SequenceField.SAMPLE] >= 0)

    def document_for_next(self, sample_id: int) -> SampleDocument | None:
        """See Dataset."""
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
            assert handed is not None, "each sample of a step hands its answer on"
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
