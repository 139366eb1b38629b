"""Rated answers, and their prompts with answers of others; pairs of which the chosen one is made likelier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.data import Data, Packing
from footplate_contracts.v1alpha1.preference import Preference
from footplate_contracts.v1alpha1.training import Stage
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.mixture import Mixture, MixtureSource
from footplate_trainer.data.packing import IGNORED
from footplate_trainer.data.preference_dataset import (
    OrpoDataset,
    PreferenceDataset,
    RatingDataset,
    pair_datasets,
)
from footplate_trainer.data.sample_shards import SampleDocument, StoredSample
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import UserMistake
from tests.unit.footplate_trainer.data.test_samples import write

PAD = 0


def rated(first: int, prompt: int, answer: int, label: float) -> StoredSample:
    """Tokens first, first + 1, …, of which those behind the prompt are learnt."""
    count = prompt + answer
    tokens = np.arange(first, first + count, dtype=np.int64)
    return StoredSample((SampleDocument(tokens, np.arange(count) >= prompt, prompt, label),))


SAMPLES = [rated(110, 2, 2, 1.0), rated(120, 1, 3, 0.0), rated(130, 3, 1, 1.0)]


def ratings(folder: Path, samples: list[StoredSample] = SAMPLES, size: int = 6) -> RatingDataset:
    return RatingDataset(write(folder, samples, RecordKind.RATINGS, shard_tokens=1000), size)


def test_behind_a_prompt_stands_the_answer_of_the_sample_before_it(tmp_path: Path) -> None:
    data = ratings(tmp_path / "out")

    row = data.get_with_document(0, 0, data.document_for_next(1))

    assert row.tokens[:, :5].tolist() == [[110, 111, 112, 113, PAD], [110, 111, 121, 122, 123]]
    assert row.labels[:, :5].tolist() == [
        [IGNORED, 112, 113, IGNORED, IGNORED],
        [IGNORED, 121, 122, 123, IGNORED],
    ]
    assert row.documents.tolist() == [[0, 0, 0, 0, -1, -1], [0, 0, 0, 0, 0, -1]]
    assert row.sequences is not None and row.sequences.tolist() == [[[0, 0, 2, 2]], [[0, 1, 2, 3]]]
    assert row.sequence_values["desirable"].tolist() == [[1.0], [0.0]]
    assert dict(zip(data.count_names, data.counts(row), strict=True)) == {"tokens": 2, "samples": 1}


def test_an_answer_of_another_is_cut_where_it_is_too_long(tmp_path: Path) -> None:
    data = ratings(tmp_path / "out", size=4)
    assert data.get_with_document(2, 0, data.document_for_next(1)).tokens[1].tolist() == [130, 131, 132, 121]


@pytest.mark.parametrize("size", [1, 3])
def test_the_step_and_no_micro_batch_decides_whose_answer_it_is(size: int, tmp_path: Path) -> None:
    loader = BatchLoader(ratings(tmp_path / "out"), seed=4, global_batch_size=3, micro_batch_size=size)
    batch = loader.build(0)
    loader.close()

    first = {110: 112, 120: 121, 130: 133}  # tokens of prompts and of answers
    order = [110 + 10 * sample for sample in batch.sample_ids.tolist()]
    rows = np.concatenate([micro.tokens for micro in batch.micro_batches])
    sequences = np.concatenate(
        [micro.sequences for micro in batch.micro_batches if micro.sequences is not None]
    )
    places = np.concatenate([micro.places for micro in batch.micro_batches])
    assert rows.shape == (6, 6) and sequences.shape == (6, 1, 4)
    assert sequences[:, 0, 0].tolist() == places.tolist() == [0, 0, 1, 1, 2, 2]
    for place, (prompt, row) in enumerate(zip(order, rows[1::2], strict=True)):
        assert row[0] == prompt
        assert first[order[place - 1]] in row.tolist()
    assert batch.counts == {"tokens": 6, "samples": 3}


def test_a_filler_is_nobodys_answer(tmp_path: Path) -> None:
    loader = BatchLoader(
        ratings(tmp_path / "out"), seed=4, global_batch_size=3, micro_batch_size=1, data_rank=1, data_degree=2
    )
    real, filler = loader.build(0).micro_batches
    loader.close()
    assert real.real.all() and not filler.real.any()
    assert filler.sequences is not None and (filler.sequences == -1).all()


def test_answers_go_from_one_source_of_a_mixture_to_another(tmp_path: Path) -> None:
    sources = [ratings(tmp_path / name, [sample]) for name, sample in zip("ab", SAMPLES, strict=False)]
    mixed = Mixture([MixtureSource(name, 1.0, data) for name, data in zip("ab", sources, strict=True)])
    loader = BatchLoader(mixed, seed=1, global_batch_size=2, micro_batch_size=2)
    (micro,) = loader.build(0).micro_batches
    loader.close()
    mismatched = {int(row[0]): row.tolist() for row in micro.tokens[1::2]}
    assert mismatched == {110: [110, 111, 121, 122, 123, PAD], 120: [120, 112, 113, PAD, PAD, PAD]}


def test_pairs_are_no_ratings(tmp_path: Path) -> None:
    pair = StoredSample(tuple(sample.documents[0] for sample in SAMPLES[:2]))
    write(tmp_path / "out", [pair], RecordKind.PREFERENCES)
    data, kto = Data(uri=str(tmp_path / "out")), Preference.model_validate({"loss": "kto"})
    with pytest.raises(
        UserMistake, match="stage dpo with loss kto is trained on data packed with --format rat"
    ):
        dataset_of(RunShards.open(data), data, "crossEntropy", 8, STAGES[Stage.DPO], kto)


def pairs() -> list[StoredSample]:
    """Two, without labels."""
    documents = [
        SampleDocument(s.documents[0].tokens, s.documents[0].learnt, s.documents[0].prompt) for s in SAMPLES
    ]
    return [StoredSample((documents[0], documents[1])), StoredSample((documents[2], documents[0]))]


@pytest.mark.parametrize("everything", [False, True])
def test_of_odds_the_chosen_sequence_is_learnt(everything: bool, tmp_path: Path) -> None:
    shards = write(tmp_path / "out", pairs(), RecordKind.PREFERENCES, shard_tokens=1000)
    data = OrpoDataset(shards, 16, everything=everything)

    row = data.get(0)

    prompt = 111 if everything else IGNORED
    assert row.labels[:8].tolist() == [prompt, 112, 113, IGNORED, 121, 122, 123, IGNORED]
    assert row.token_values["answer"][:8].tolist() == [0, 1, 1, 0, 1, 1, 1, 0]
    learnt = {"tokens": 8 + 3 * everything, "pairs": 2, "learnt": 3 + 3 * everything}
    assert dict(zip(data.count_names, data.counts(row), strict=True)) == learnt
    assert data.counts(data.get(-1)) == (0, 0, 0)


@pytest.mark.parametrize("packing", [Packing(), Packing(enabled=False)])
def test_rows_are_given_the_numbers_of_their_documents(packing: Packing, tmp_path: Path) -> None:
    shards = write(tmp_path / "out", pairs(), RecordKind.PREFERENCES, shard_tokens=1000)
    data = PreferenceDataset(shards, 16, packing)
    mixed = Mixture([MixtureSource("only", 1.0, data)])
    assert pair_datasets(mixed) == [data]
    data.reference = np.array([-1.0, -2.0, -3.0, -4.0])
    for number in range(len(data)):
        documents = data.documents_of(number)
        numbers = mixed.get(number).sequence_values["reference"]
        assert numbers.dtype == np.float64
        assert numbers[: len(documents)].tolist() == (-1.0 - documents).tolist()
    assert sorted(np.concatenate([data.documents_of(n) for n in range(len(data))]).tolist()) == [0, 1, 2, 3]
    assert data.get(-1).sequence_values["reference"].tolist() == [0.0] * 2 * data.bins.most
