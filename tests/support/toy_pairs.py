"""Rows of pairs as a data set of preferences gives them, made of nothing but their ids; no torch."""

from __future__ import annotations

import numpy as np

from footplate_trainer.data.datasets import Dataset
from footplate_trainer.data.packing import IGNORED, Sample, filler_sample
from footplate_trainer.model.sequence_field import SequenceField

CONTEXT, MOST = 32, 4  # places of a row, and sequences in it at most


class ToyPairs(Dataset):
    """Rows of one or two pairs: after a common prompt, a chosen answer of low ids and one of high ids."""

    def __len__(self) -> int:
        return 64

    @property
    def count_names(self) -> tuple[str, ...]:
        return ("tokens", "pairs")

    def counts(self, sample: Sample) -> tuple[int, ...]:
        assert sample.sequences is not None
        there = sample.sequences[:, SequenceField.SAMPLE].max() + 1
        return (*super().counts(sample), int(there))

    def get(self, sample_id: int, index: int = 0) -> Sample:
        rows = filler_sample(CONTEXT, 0)
        sequences = np.full((MOST, 4), -1, dtype=np.int32)
        weight, reference = np.zeros(CONTEXT, dtype=np.float32), np.zeros(MOST, dtype=np.float32)
        sample = Sample(
            rows.tokens,
            rows.labels,
            rows.documents,
            sequences=sequences,
            token_values={"weight": weight},
            sequence_values={"reference": reference},
        )
        if sample_id < 0:
            return sample
        rng = np.random.default_rng(sample_id)
        start = 0
        for pair in range(1 + sample_id % 2):
            prompt = rng.integers(8, size=rng.integers(1, 4))
            for side, (low, high) in enumerate(((8, 30), (30, 60))):
                answer = rng.integers(low, high, size=rng.integers(1, 5))
                length, number = len(prompt) + len(answer) - 1, 2 * pair + side
                whole, here = np.concatenate((prompt, answer)), slice(start, start + length)
                rows.tokens[here], rows.documents[here] = whole[:-1], number
                rows.labels[here] = np.where(np.arange(length) < len(prompt) - 1, IGNORED, whole[1:])
                sequences[number] = pair, side, len(prompt), len(answer)
                weight[here] = rng.uniform(0.5, 1.5, size=length)
                reference[number] = -6.0 * len(answer) + rng.normal()
                start += length
        return sample
