"""Any number of ranks and any sharding is the same run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.support.ranks import run_ranks
from tests.support.tiny import VOCABULARY, read_rows, tiny_config
from tests.support.training import train

FULL, NONE = "parallelism.sharding=full", "parallelism.sharding=none"


def rows_of(shards: Path, folder: Path, ranks: int, *overrides: str) -> list[dict[str, Any]]:
    config = tiny_config(shards, folder, overrides)
    assert run_ranks(train, ranks, config, folder / "metrics.jsonl") == [0] * ranks
    return read_rows(folder / "metrics.jsonl")


@pytest.fixture(scope="module")
def alone(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return rows_of(shards, tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        pytest.param(1, (NONE,), id="one-rank-whole"),
        pytest.param(2, (FULL,), id="two-ranks-sharded"),
        pytest.param(2, (NONE,), id="two-ranks-whole"),
        pytest.param(4, (FULL,), id="four-ranks-sharded"),
        pytest.param(4, (NONE,), id="four-ranks-whole"),
        pytest.param(3, (FULL,), id="three-ranks-uneven-shards-and-fillers"),
        pytest.param(2, (FULL, "training.microBatchSize=1"), id="more-accumulation"),
    ],
)
def test_losses_and_gradient_norms_do_not_depend_on_the_layout(
    shards: Path, tmp_path: Path, alone: list[dict[str, Any]], ranks: int, overrides: tuple[str, ...]
) -> None:
    rows = rows_of(shards, tmp_path, ranks, *overrides)

    assert [row["sampleDigest"] for row in rows] == [row["sampleDigest"] for row in alone]
    assert [row["tokens"] for row in rows] == [row["tokens"] for row in alone]
    for ours, reference in zip(rows, alone, strict=True):
        assert ours["loss"] == pytest.approx(reference["loss"], rel=3e-6)
        assert ours["gradientNorm"] == pytest.approx(reference["gradientNorm"], rel=1e-5)
    assert alone[-1]["loss"] < alone[0]["loss"] - 0.05, "a loss that stands still proves nothing"


def test_smoothing_and_z_loss_do_not_depend_on_the_layout(shards: Path, tmp_path: Path) -> None:
    both = ("training.loss.labelSmoothing=0.1", "training.loss.zLoss=0.01", "training.steps=3")
    two, one = (rows_of(shards, tmp_path / str(ranks), ranks, FULL, *both) for ranks in (2, 1))

    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=3e-6)
    assert one[0]["loss"] == pytest.approx(math.log(VOCABULARY) + 0.01 * math.log(VOCABULARY) ** 2, rel=0.01)


def test_the_same_layout_twice_is_the_same_bits(shards: Path, tmp_path: Path) -> None:
    first = rows_of(shards, tmp_path / "1", 2, FULL, "training.deterministic=true")
    second = rows_of(shards, tmp_path / "2", 2, FULL, "training.deterministic=true")

    assert [(row["loss"], row["gradientNorm"]) for row in first] == [
        (row["loss"], row["gradientNorm"]) for row in second
    ]


def test_bf16_follows_fp32(shards: Path, tmp_path: Path, alone: list[dict[str, Any]]) -> None:
    rows = rows_of(shards, tmp_path, 2, "training.precision=bf16")

    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in alone], rel=3e-3)
    assert rows[0]["loss"] != alone[0]["loss"]


def test_attention_across_documents_is_another_model(
    shards: Path, tmp_path: Path, alone: list[dict[str, Any]]
) -> None:
    rows = rows_of(shards, tmp_path, 1, "data.packing.crossDocumentAttention=true", "training.steps=3")

    assert rows[1]["loss"] != pytest.approx(alone[1]["loss"], rel=1e-4)


def test_ranks_may_hold_no_row_of_a_small_parameter(shards: Path, tmp_path: Path) -> None:
    narrow = ("model.hiddenSize=6", "model.attentionHeads=3", "model.keyValueHeads=1", "training.steps=3")

    four = rows_of(shards, tmp_path / "4", 4, FULL, *narrow)
    one = rows_of(shards, tmp_path / "1", 1, FULL, *narrow)

    assert [row["loss"] for row in four] == pytest.approx([row["loss"] for row in one], rel=3e-6)
    assert [row["gradientNorm"] for row in four] == pytest.approx(
        [row["gradientNorm"] for row in one], rel=1e-5
    )


@pytest.mark.long
def test_a_decoder_behind_an_encoder_may_have_a_length_that_tensor_ranks_cannot_share_out(
    shards: Path, tmp_path: Path
) -> None:
    """36 tokens of text leave 9 for the decoder."""
    t5 = ("model.family=t5", "model.keyValueHeads=null", "model.contextLength=36", "training.steps=3")

    one = rows_of(shards, tmp_path / "1", 1, *t5)
    two = rows_of(shards, tmp_path / "2", 4, *t5, "parallelism.tensor=2", "parallelism.pipeline=2")

    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=3e-6)
    assert [row["gradientNorm"] for row in two] == pytest.approx(
        [row["gradientNorm"] for row in one], rel=1e-5
    )
