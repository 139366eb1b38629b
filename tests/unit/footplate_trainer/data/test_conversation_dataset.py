"""Conversations in sequences: each whole and by itself, its labels the next of its own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from footplate_contracts.stages import STAGES, StageRules
from footplate_contracts.v1alpha1.data import Data, LossMask, OverlongPolicy, Packing
from footplate_contracts.v1alpha1.training import Stage
from footplate_trainer.data.conversation_dataset import ConversationDataset
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.packing import IGNORED, PADDING_DOCUMENT
from footplate_trainer.data.sample_shards import StoredSample
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import UserMistake
from tests.unit.footplate_trainer.data.test_samples import CHATS, PROMPTS, document, write


def shards(folder: Path, *lengths: int, learnt: Sequence[int] = ()) -> TokenShards:
    """Conversations of these lengths: tokens of the first are 107, 108, …, of the second 127, 128, …"""
    samples = [
        StoredSample((document(length, 107 + 20 * number, learnt),)) for number, length in enumerate(lengths)
    ]
    return write(folder / "out", samples, shard_tokens=1000)


def test_samples_share_a_sequence_and_none_predicts_another(tmp_path: Path) -> None:
    data = ConversationDataset(shards(tmp_path, 5, 3), 10)

    row = data.get(0)

    assert len(data) == 1
    assert row.tokens[:8].tolist() == [107, 108, 109, 110, 111, 127, 128, 129]
    assert row.labels.tolist() == [108, 109, 110, 111, IGNORED, 128, 129, IGNORED, IGNORED, IGNORED]
    assert row.documents.tolist() == [0] * 5 + [1] * 3 + [PADDING_DOCUMENT] * 2
    assert data.counts(row) == (6,)
    assert str(data) == "2 samples in 1 sequences of 10 tokens, 80.0% of them used"


def test_what_is_not_learnt_is_read_and_not_predicted(tmp_path: Path) -> None:
    packed = shards(tmp_path, 5, learnt=[2, 4])
    assert ConversationDataset(packed, 6).get(0).labels.tolist() == [-100, 109, -100, 111, -100, -100]
    everything = ConversationDataset(packed, 6, mask=LossMask.ALL)
    assert everything.get(0).labels.tolist() == [108, 109, 110, 111, -100, -100]
    with pytest.raises(ValueError, match=r"data\.mask completion: .* packed with --mask assistant"):
        ConversationDataset(packed, 6, mask=LossMask.COMPLETION)


def test_unpacked_each_sample_has_a_sequence(tmp_path: Path) -> None:
    data = ConversationDataset(shards(tmp_path, 5, 3), 10, Packing(enabled=False))
    assert len(data) == 2
    assert [np.count_nonzero(data.get(number).documents == 0) for number in (0, 1)] == [5, 3]


def test_every_label_of_every_sample_is_there_once(tmp_path: Path) -> None:
    packed = write(tmp_path / "out", CHATS)
    data = ConversationDataset(packed, 16)
    found = [data.get(number) for number in range(len(data))]
    learnt = sum(int(sample.documents[0].learnt[1:].sum()) for sample in CHATS)
    assert sum(data.counts(row)[0] for row in found) == learnt
    assert sum(int((row.documents != PADDING_DOCUMENT).sum()) for row in found) == packed.tokens


def test_a_filler_has_no_label(tmp_path: Path) -> None:
    row = ConversationDataset(shards(tmp_path, 5), 6).get(-1)
    assert set(row.labels.tolist()) == {IGNORED} and set(row.documents.tolist()) == {PADDING_DOCUMENT}


@pytest.mark.parametrize(
    ("overlong", "kept", "lost"),
    [
        pytest.param("drop", "1 samples in 1 sequences", "0 were cut and 1 dropped", id="drop"),
        pytest.param("cut", "2 samples in 2 sequences", "1 were cut and 0 dropped", id="cut"),
    ],
)
def test_long_samples_are_lost_and_counted(overlong: str, kept: str, lost: str, tmp_path: Path) -> None:
    samples = [StoredSample((document(6, 107, learnt=[1, 2, 4], ends=[2, 4]),)), StoredSample((document(3),))]
    packed = write(tmp_path / "out", samples)
    said = f"{kept} of 4 tokens, 75.0% of them used; {lost}"
    assert str(ConversationDataset(packed, 4, overlong=OverlongPolicy(overlong))) == said
    with pytest.raises(ValueError, match="has 1 samples of more than contextLength 4 tokens"):
        ConversationDataset(packed, 4)


def test_nothing_that_fits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no sample in .* fits into contextLength 4"):
        ConversationDataset(shards(tmp_path, 9), 4, overlong=OverlongPolicy.DROP)


def test_sft_takes_conversations_alone(tmp_path: Path) -> None:
    data = Data.from_json({"uri": str(write(tmp_path / "out", CHATS).folder)})
    assert len(dataset_of(RunShards.open(data), data, "crossEntropy", 16, STAGES[Stage.SFT])) > 0
    write(tmp_path / "prompts", PROMPTS, RunShards.open(data).format.PROMPTS)
    other = Data.from_json({"uri": str(tmp_path / "prompts")})
    with pytest.raises(UserMistake, match=r"stage sft is trained on .* --format chat, but .* has prompts"):
        dataset_of(RunShards.open(other), other, "crossEntropy", 16, STAGES[Stage.SFT])


def test_sources_of_conversations_are_mixed(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, CHATS)
    data = Data.from_json({"sources": [{"name": name, "uri": str(tmp_path / name)} for name in "ab"]})
    mixed = dataset_of(RunShards.open(data), data, "crossEntropy", 16, STAGES[Stage.SFT])
    assert str(mixed).startswith("a: 13 samples in ") and "; b: 13 samples in " in str(mixed)


def test_a_stage_of_ones_own_reads_the_format_of_its_record(tmp_path: Path) -> None:
    distil = StageRules(stage="distil", data_format="chat", uses_conversations=True)
    data = Data.from_json({"uri": str(write(tmp_path / "out", CHATS).folder)})
    assert isinstance(dataset_of(RunShards.open(data), data, "crossEntropy", 16, distil), ConversationDataset)
    write(tmp_path / "prompts", PROMPTS, RecordKind.PROMPTS)
    other = Data.from_json({"uri": str(tmp_path / "prompts")})
    with pytest.raises(UserMistake, match=r"stage distil is trained on .* --format chat,"):
        dataset_of(RunShards.open(other), other, "crossEntropy", 16, distil)
