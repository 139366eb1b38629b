"""A step's samples are the same whatever ranks train on them."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from footplate_contracts.v1alpha1.data import Packing
from footplate_trainer.data.datasets import SequenceDataset
from footplate_trainer.data.loader import BatchLoader, StepBatch
from footplate_trainer.data.packing import IGNORED
from tests.unit.footplate_trainer.data.conftest import EOS, WriteShards

CONTEXT = 8
GLOBAL, MICRO = 12, 2


@pytest.fixture
def dataset(write_shards: WriteShards, corpus_of_documents: list[list[int]]) -> SequenceDataset:
    return SequenceDataset(write_shards(corpus_of_documents, shard_tokens=50), CONTEXT)


def loader(dataset: SequenceDataset, rank: int = 0, degree: int = 1, seed: int = 5) -> BatchLoader:
    return BatchLoader(
        dataset,
        seed=seed,
        global_batch_size=GLOBAL,
        micro_batch_size=MICRO,
        data_rank=rank,
        data_degree=degree,
    )


def rows_of(batches: list[StepBatch]) -> list[tuple[int, ...]]:
    """Token rows that carry weight, in no order."""
    micro_batches = [micro for batch in batches for micro in batch.micro_batches]
    return sorted(
        tuple(tokens.tolist())
        for micro in micro_batches
        for tokens, labels in zip(micro.tokens, micro.labels, strict=True)
        if (labels != IGNORED).any()
    )


@pytest.mark.parametrize("cross", [False, True], ids=["masked", "cross-document"])
def test_windows_are_slices_of_the_stream(
    write_shards: WriteShards, corpus_of_documents: list[list[int]], cross: bool
) -> None:
    shards = write_shards(corpus_of_documents, shard_tokens=50)
    dataset = SequenceDataset(shards, CONTEXT, Packing(cross_document_attention=cross))
    stream = np.array([token for document in corpus_of_documents for token in [*document, EOS]])
    number = np.repeat(np.arange(57), [len(document) + 1 for document in corpus_of_documents])
    assert len(dataset) == (len(stream) - 1) // CONTEXT
    for index in range(len(dataset)):
        here = slice(index * CONTEXT, index * CONTEXT + CONTEXT)
        after = slice(here.start + 1, here.stop + 1)
        kept = (number[here] == number[after]) | cross
        sample = dataset.get(index)
        assert np.array_equal(sample.tokens, stream[here])
        assert np.array_equal(sample.labels, np.where(kept, stream[after], IGNORED))
        expected = number[here] * (not cross)
        assert np.array_equal(sample.documents, expected - expected[0])


def test_without_packing_a_sample_is_a_document(
    write_shards: WriteShards, corpus_of_documents: list[list[int]]
) -> None:
    dataset = SequenceDataset(
        write_shards(corpus_of_documents, shard_tokens=50), CONTEXT, Packing(enabled=False)
    )
    assert len(dataset) == 57
    for index, document in enumerate(corpus_of_documents):
        labels = dataset.get(index).labels
        assert labels[labels != IGNORED].tolist() == [*document, EOS][1 : CONTEXT + 1]


def test_too_little_text_for_one_sequence_is_refused(write_shards: WriteShards) -> None:
    with pytest.raises(ValueError, match="3 tokens, fewer than one sequence: contextLength 3 needs 4"):
        SequenceDataset(write_shards([[8, 9]]), 3)


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5, 7])
def test_a_step_trains_the_same_samples_on_any_number_of_ranks(dataset: SequenceDataset, degree: int) -> None:
    for step in (0, 1, 17):
        alone = loader(dataset).step(step)
        dealt = [loader(dataset, rank, degree).step(step) for rank in range(degree)]
        assert rows_of(dealt) == rows_of([alone])
        assert {name: sum(batch.counts[name] for batch in dealt) for name in alone.counts} == alone.counts
        assert len({len(batch.micro_batches) for batch in dealt}) == 1
        assert {batch.sample_digest for batch in dealt} == {alone.sample_digest}


def test_no_sample_is_lost_or_repeated_when_the_world_changes_in_the_middle(dataset: SequenceDataset) -> None:
    steps = 3 * len(dataset) // GLOBAL
    undisturbed = [loader(dataset).build(step).sample_ids for step in range(steps)]
    elastic = [
        loader(dataset, rank=0, degree=1 + step // 3 % 4).build(step).sample_ids for step in range(steps)
    ]
    assert np.array_equal(np.concatenate(undisturbed), np.concatenate(elastic))
    seen = np.bincount(np.concatenate(elastic), minlength=len(dataset))
    assert set(seen.tolist()) <= {2, 3}  # three epochs, the last cut off by less than a step
    assert seen.sum() == steps * GLOBAL


def test_micro_batches_have_the_promised_shapes(dataset: SequenceDataset) -> None:
    batch = loader(dataset, rank=4, degree=5).step(0)
    assert [micro.tokens.shape for micro in batch.micro_batches] == [(MICRO, CONTEXT)] * 2
    assert batch.sample_ids.shape == (GLOBAL,)
    assert (batch.micro_batches[1].labels == IGNORED).all()
    for micro in batch.micro_batches:
        assert (micro.tokens.dtype, micro.labels.dtype, micro.documents.dtype) == (
            np.int64,
            np.int64,
            np.int32,
        )


def test_asking_in_another_order_changes_nothing(dataset: SequenceDataset) -> None:
    ahead, apart = loader(dataset), loader(dataset)
    in_order = {step: ahead.step(step) for step in range(5)}
    for step in (3, 4, 0, 2, 1):
        assert rows_of([apart.step(step)]) == rows_of([in_order[step]])
    ahead.close()
    apart.close()


def test_the_thread_starts_with_the_first_step_and_ends_with_close(dataset: SequenceDataset) -> None:
    before = set(threading.enumerate())  # among them threads of loaders that were given up, ending by and by

    def started() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread not in before]

    one = loader(dataset, seed=77)
    assert started() == []
    one.step(0)
    assert started() == ["footplate-data_0"]
    one.close()
    assert started() == []


def test_what_goes_wrong_ahead_is_raised_where_it_is_asked_for(dataset: SequenceDataset) -> None:
    class Failing(SequenceDataset):
        def get(self, sample_id: int, index: int = 0):
            if threading.current_thread().name.startswith("footplate-data"):
                raise OSError("the volume is gone")
            return super().get(sample_id, index)

    one = loader(Failing(dataset.shards, CONTEXT))
    one.step(0)
    with pytest.raises(OSError, match="the volume is gone"):
        one.step(1)
    one.close()
