"""What a loss of whole sequences knows of them is the same on any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest

from footplate_trainer.data.loader import BatchLoader, StepBatch
from footplate_trainer.model.sequence_field import SequenceField
from tests.support.toy_pairs import CONTEXT, MOST, ToyPairs

GLOBAL, MICRO = 6, 2


def dealt(degree: int) -> list[StepBatch]:
    """Step 3 as each of `degree` ranks has it."""
    return [
        BatchLoader(
            ToyPairs(),
            seed=5,
            global_batch_size=GLOBAL,
            micro_batch_size=MICRO,
            data_rank=rank,
            data_degree=degree,
        ).build(3)
        for rank in range(degree)
    ]


def sequences_of(batches: list[StepBatch]) -> list[tuple[int, ...]]:
    """The numbers of all sequences that there are, in no order."""
    tables = [micro.sequences for batch in batches for micro in batch.micro_batches]
    rows = np.concatenate([table.reshape(-1, 4) for table in tables if table is not None])
    return sorted(tuple(row) for row in rows[rows[:, SequenceField.SAMPLE] >= 0].tolist())


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_samples_are_numbered_within_the_global_batch(degree: int) -> None:
    alone, ranks = dealt(1), dealt(degree)
    known = sequences_of(alone)

    assert sequences_of(ranks) == known
    assert {name: sum(batch.counts[name] for batch in ranks) for name in alone[0].counts} == alone[0].counts
    keys = [(row[SequenceField.SAMPLE], row[SequenceField.SIDE]) for row in known]
    samples = {sample for sample, _ in keys}
    assert keys == [(sample, side) for sample in sorted(samples) for side in (0, 1)]
    assert len(samples) == alone[0].counts["pairs"]
    assert {sample // MOST for sample in samples} == set(range(GLOBAL))


def test_numbers_of_tokens_and_of_sequences_stand_beside_them() -> None:
    (batch,) = dealt(1)
    for micro in batch.micro_batches:
        assert micro.sequences is not None
        assert micro.sequences.shape == (MICRO, MOST, 4)
        assert micro.token_values["weight"].shape == (MICRO, CONTEXT)
        assert micro.sequence_values["reference"].shape == (MICRO, MOST)
        for documents, labels, table in zip(micro.documents, micro.labels, micro.sequences, strict=True):
            counted = np.bincount(documents[labels >= 0], minlength=MOST)
            there = table[:, SequenceField.SAMPLE] >= 0
            assert np.array_equal(counted[there], table[there, SequenceField.LABELS])


def test_rows_that_even_out_the_ranks_have_none() -> None:
    fillers = [micro for batch in dealt(5) for micro in batch.micro_batches if not micro.real.any()]
    assert fillers
    for micro in fillers:
        assert (micro.sequences == -1).all()
