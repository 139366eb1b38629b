"""Samples of each format, and what the loader makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from footplate_contracts.v1alpha1.data import Masking, MaskingName, Packing
from footplate_trainer.data.datasets import (
    Dataset,
    MaskedDataset,
    PairDataset,
    RegressionDataset,
    SequenceDataset,
    SpanDataset,
)
from footplate_trainer.data.layout import RecordKind, SpecialIds
from footplate_trainer.data.loader import BatchLoader, StepBatch
from footplate_trainer.data.packing import IGNORED
from footplate_trainer.errors import UserMistake
from tests.unit.footplate_trainer.data.conftest import EOS, SPECIAL, WriteShards

S = 16
MLM = Masking(name=MaskingName.MLM, probability=0.3)
SPANS = Masking(name=MaskingName.SPAN, probability=0.3, mean_span_length=2.0)
TEXTS = [[107 + number, *range(200, 200 + number % 20)] for number in range(24)]


def masked(write_shards: WriteShards, *, packing_enabled: bool = True, **written: Any) -> Dataset:
    shards = write_shards(TEXTS, shard_tokens=60, **written)
    return MaskedDataset(shards, S, Packing(enabled=packing_enabled), MLM, seed=3)


def span(write_shards: WriteShards, *, packing_enabled: bool = True, **written: Any) -> Dataset:
    shards = write_shards(TEXTS, shard_tokens=60, **written)
    return SpanDataset(shards, S, Packing(enabled=packing_enabled), SPANS, seed=3)


def pairs(write_shards: WriteShards) -> Dataset:
    return PairDataset(write_shards(TEXTS, shard_tokens=60, shard_format=RecordKind.PAIRS), S)


def regression(write_shards: WriteShards) -> Dataset:
    values = [number / 8 for number in range(len(TEXTS))]
    shards = write_shards(TEXTS, shard_tokens=60, shard_format=RecordKind.REGRESSION, values=values)
    return RegressionDataset(shards, S)


def step(dataset: Dataset, number: int, rank: int = 0, degree: int = 1) -> StepBatch:
    return BatchLoader(
        dataset, seed=1, global_batch_size=8, micro_batch_size=2, data_rank=rank, data_degree=degree
    ).build(number)


def real_rows(batches: list[StepBatch]) -> list[bytes]:
    """All arrays of each real sample, as bytes, in no order."""
    found = []
    for micro in (micro for batch in batches for micro in batch.micro_batches):
        each = len(micro.tokens) // len(micro.real)
        for place in np.flatnonzero(micro.real):
            rows = slice(place * each, (place + 1) * each)
            arrays = [micro.tokens, micro.labels, micro.documents]
            arrays += [
                array for array in (micro.decoder_tokens, micro.decoder_documents) if array is not None
            ]
            found.append(b"/".join(array[rows].tobytes() for array in arrays) + micro.values[place].tobytes())
    return sorted(found)


@pytest.mark.parametrize("make", [masked, span, pairs, regression])
@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_a_step_is_the_same_on_any_number_of_ranks(write_shards: WriteShards, make, degree: int) -> None:
    dataset = make(write_shards)
    for number in (0, 5):
        alone = step(dataset, number)
        dealt = [step(dataset, number, rank, degree) for rank in range(degree)]
        assert real_rows(dealt) == real_rows([alone])
        assert {name: sum(batch.counts[name] for batch in dealt) for name in alone.counts} == alone.counts
        shapes = {micro.tokens.shape for batch in dealt for micro in batch.micro_batches}
        assert len(shapes) == 1


@pytest.mark.parametrize("make", [masked, span])
@pytest.mark.parametrize("packing_enabled", [True, False])
def test_the_next_epoch_hides_something_else(write_shards: WriteShards, make, packing_enabled: bool) -> None:
    dataset = make(write_shards, packing_enabled=packing_enabled)
    first, again, later = (dataset.get(12, index) for index in (3, 3, 1003))
    assert np.array_equal(first.tokens, again.tokens) and np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.tokens, later.tokens)


@pytest.mark.parametrize("pad", [None, EOS], ids=["no-pad", "pad-is-eos"])
def test_what_is_not_used_need_not_be_there_and_padding_is_no_end(
    write_shards: WriteShards, pad: int | None
) -> None:
    shards = write_shards([[200, 201], [202]], special=SpecialIds(eos=EOS, pad=pad))
    filled = pad or 0
    sample = SequenceDataset(shards, 4, Packing(enabled=False)).get(0)
    assert sample.tokens.tolist() == [200, 201, EOS, filled]
    assert sample.labels.tolist() == [201, EOS, IGNORED, IGNORED]  # the end is learnt though padding looks so
    assert sample.documents.tolist() == [0, 0, 0, -1]
    pairs = write_shards(
        [[200, 201], [202]], folder="p", special=shards.special, shard_format=RecordKind.PAIRS
    )
    assert PairDataset(pairs, 4).get(0).tokens.tolist() == [
        [200, 201, EOS, filled],
        [202, EOS, filled, filled],
    ]
    assert PairDataset(pairs, 4).get(-1).tokens.tolist() == [[filled] * 4] * 2


@pytest.mark.parametrize(
    ("make", "lacking", "complaint"),
    [
        pytest.param(
            masked,
            "mask",
            r"mlm needs a token for mask, and .* --reserve mask"
            r" \(--special-token mask=TOKEN if it has one\)",
            id="mask",
        ),
        pytest.param(span, "pad", "data.masking span needs a token for pad", id="start-of-a-decoder"),
        pytest.param(span, "eos", "data.masking span needs a token for eos", id="end"),
        pytest.param(
            span,
            "sentinels",
            "span needs 100 sentinels, and .* --reserve sentinels; for a model .*resizeTokenEmbeddings",
            id="sentinels",
        ),
    ],
)
def test_who_needs_an_id_says_which(write_shards: WriteShards, make, lacking: str, complaint: str) -> None:
    special = SpecialIds.from_json({k: v for k, v in SPECIAL.to_json().items() if k != lacking})
    with pytest.raises(UserMistake, match=complaint):
        make(write_shards, special=special)
    make(write_shards, folder="whole")


def test_pairs_stand_in_two_rows(write_shards: WriteShards) -> None:
    dataset = pairs(write_shards)
    batch = step(dataset, 0)
    assert (len(dataset), batch.counts) == (12, {"texts": 8})
    micro = batch.micro_batches[0]
    assert (micro.tokens.shape, micro.real.shape) == ((4, S), (2,))
    for place, sample_id in enumerate(batch.sample_ids[:2]):
        for half in (0, 1):
            row = 2 * place + half
            text = [*TEXTS[2 * sample_id + half], EOS]
            kept = len(text) if len(text) <= S else S
            assert micro.tokens[row, : kept - 1].tolist() == text[: kept - 1]
            assert micro.tokens[row, kept - 1] == EOS  # also of a text that was cut
            assert micro.documents[row].tolist() == [0] * kept + [-1] * (S - kept)
    assert (micro.labels == IGNORED).all()


def test_a_value_goes_with_its_text(write_shards: WriteShards) -> None:
    batch = step(regression(write_shards), 0)
    values = np.concatenate([micro.values for micro in batch.micro_batches])
    assert values.dtype == np.float32 and batch.counts == {"texts": 8}
    assert np.array_equal(values, batch.sample_ids.astype(np.float32) / 8)


@pytest.mark.parametrize("make", [masked, span, pairs, regression])
def test_a_filler_is_not_real_and_weighs_nothing(write_shards: WriteShards, make) -> None:
    batch = step(make(write_shards), 0, rank=2, degree=3)  # 4 micro-batches on 3 ranks
    filler = batch.micro_batches[1]
    assert not filler.real.any() and (filler.documents == -1).all() and (filler.labels == IGNORED).all()
    assert batch.micro_batches[0].real.all()
