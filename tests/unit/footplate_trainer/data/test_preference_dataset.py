"""Pairs in sequences: both answers of each in one, each by itself, and what is known of them beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.data import Data, OverlongPolicy, Packing, Source
from footplate_contracts.v1alpha1.training import Stage
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.mixture import Mixture, MixtureSource
from footplate_trainer.data.packing import IGNORED, PADDING_DOCUMENT
from footplate_trainer.data.preference_dataset import MARGIN, PreferenceDataset
from footplate_trainer.data.sample_shards import StoredSample
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import UserMistake
from tests.unit.footplate_trainer.data.test_samples import CHATS, PAIRS, document, write

SHORT = StoredSample((document(3, 107, learnt=[2]), document(4, 127, learnt=[2, 3])))
LONG = StoredSample((document(4, 147, learnt=[1, 3], value=2.0), document(3, 167, value=0.0)))


def pairs(folder: Path, *samples: StoredSample) -> TokenShards:
    return write(folder, list(samples), RecordKind.PREFERENCES, shard_tokens=1000)


def test_both_answers_of_a_pair_are_documents_of_one_sequence(tmp_path: Path) -> None:
    data = PreferenceDataset(pairs(tmp_path / "out", SHORT, SHORT), 16)

    row = data.get(0)

    assert len(data) == 1 and row.sequences is not None
    assert row.tokens[:7].tolist() == [107, 108, 109, 127, 128, 129, 130]
    assert row.labels[:7].tolist() == [IGNORED, 109, IGNORED, IGNORED, 129, 130, IGNORED]
    assert row.documents.tolist() == [0] * 3 + [1] * 4 + [2] * 3 + [3] * 4 + [PADDING_DOCUMENT] * 2
    assert row.sequences.tolist() == [[0, 0, 2, 1], [0, 1, 2, 2], [1, 0, 2, 1], [1, 1, 2, 2]]
    assert row.sequence_values[MARGIN].tolist() == [0.0] * 4
    assert dict(zip(data.count_names, data.counts(row), strict=True)) == {"tokens": 6, "pairs": 2}


def test_a_margin_is_that_of_its_pair(tmp_path: Path) -> None:
    row = PreferenceDataset(pairs(tmp_path / "out", LONG), 16).get(0)
    assert row.sequence_values[MARGIN].tolist() == [2.0, 0.0]


def test_what_is_learnt_of_a_prompt_is_no_answer(tmp_path: Path) -> None:
    """A conversation's earlier turns are learnt by sft, and are common to both answers here."""
    earlier = document(5, 107, learnt=[1, 3, 4])
    row = PreferenceDataset(
        pairs(tmp_path / "out", StoredSample((type(earlier)(earlier.tokens, earlier.learnt, 3),) * 2)), 10
    ).get(0)
    assert row.labels.tolist() == 2 * [IGNORED, IGNORED, 110, 111, IGNORED]


def test_a_filler_has_no_pair_and_the_shape_of_a_row(tmp_path: Path) -> None:
    data = PreferenceDataset(pairs(tmp_path / "out", SHORT, SHORT), 16)
    filler, row = data.get(-1), data.get(0)
    assert filler.sequences is not None and row.sequences is not None
    assert filler.sequences.shape == row.sequences.shape and (filler.sequences == -1).all()
    assert data.counts(filler) == (0, 0)


@pytest.mark.parametrize(
    ("packing", "overlong", "says"),
    [
        pytest.param(Packing(), "drop", "1 samples in 1 sequences", id="drop"),
        pytest.param(Packing(), "cut", "0 were cut and 1 dropped", id="a-pair-is-never-cut"),
        pytest.param(Packing(enabled=False), "drop", "1 samples in 1 sequences", id="unpacked"),
    ],
)
def test_pairs_that_do_not_fit_are_lost_and_counted(
    packing: Packing, overlong: str, says: str, tmp_path: Path
) -> None:
    long = StoredSample((document(9, 107), document(8, 127)))
    shards = pairs(tmp_path / "out", SHORT, long)
    assert says in str(PreferenceDataset(shards, 9, packing, overlong=OverlongPolicy(overlong)))
    with pytest.raises(
        ValueError, match="1 samples of more than contextLength 9 tokens, the longest with 17"
    ):
        PreferenceDataset(shards, 9, packing)


def test_sources_of_a_mixture_have_room_for_as_many(tmp_path: Path) -> None:
    """A row of one pair beside a row of two: a loss is given one table for all."""
    wide = PreferenceDataset(pairs(tmp_path / "wide", SHORT, SHORT), 16)
    narrow = PreferenceDataset(pairs(tmp_path / "narrow", LONG), 16)
    mixed = Mixture([MixtureSource("wide", 1.0, wide), MixtureSource("narrow", 1.0, narrow)])
    loader = BatchLoader(mixed, seed=1, global_batch_size=4, micro_batch_size=4)
    (batch,) = loader.build(0).micro_batches
    assert batch.sequences is not None and batch.sequences.shape == (4, 4, 4)
    assert batch.sequence_values[MARGIN].shape == (4, 4)
    samples = batch.sequences[..., 0]
    assert len(np.unique(samples[samples >= 0])) == 6, "a pair is another one in each row"
    assert loader.build(0).counts["pairs"] == 6
    loader.close()


@pytest.mark.parametrize(
    ("samples", "shard_format", "says"),
    [
        pytest.param(
            CHATS, RecordKind.CHAT, r"stage reward is trained on data packed with --format pref", id="chat"
        ),
        pytest.param(PAIRS, RecordKind.PREFERENCES, "longest with 17", id="long"),
    ],
)
def test_data_that_the_stage_cannot_use_is_refused(
    samples: list[StoredSample], shard_format: RecordKind, says: str, tmp_path: Path
) -> None:
    write(tmp_path / "out", samples, shard_format)
    data = Data(uri=str(tmp_path / "out"))
    with pytest.raises(UserMistake, match=says):
        dataset_of(RunShards.open(data), data, "crossEntropy", 8, STAGES[Stage.REWARD])


def test_sources_with_and_without_margins_do_not_go_together(tmp_path: Path) -> None:
    pairs(tmp_path / "a", SHORT), pairs(tmp_path / "b", LONG)
    sources = [Source(name=name, uri=str(tmp_path / name), weight=1.0) for name in "ab"]
    with pytest.raises(UserMistake, match="a and b do not match: margin in no row and in each row"):
        RunShards.open(Data(sources=sources))
