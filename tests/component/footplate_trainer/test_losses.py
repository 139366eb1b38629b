"""Losses of whole texts, and one's own, from a run file to weights: the same on every layout."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from footplate_contracts.names import ExitCode
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.pack import pack
from footplate_trainer.model.inputs import Targets
from tests.support.ranks import run_ranks
from tests.support.tiny import VOCABULARY, read_rows, tiny_config
from tests.support.training import FakeAgent, train, train_under

HERE = "tests.component.footplate_trainer.test_losses"


def lukewarm(hidden: Tensor, head: Tensor, targets: Targets) -> Tensor:
    """One's own loss: cross-entropy at temperature 2."""
    shares = (hidden @ head.T / 2).log_softmax(-1)
    next_one = shares.gather(-1, targets.labels.clamp(min=0)[..., None]).squeeze(-1)
    return -(next_one * (targets.labels >= 0)).sum()


def no_scalar(hidden: Tensor, head: Tensor, targets: Targets) -> Tensor:
    return torch.zeros(2)


def words(rng: random.Random, count: int) -> str:
    return " ".join("".join(rng.choices("abcdefgh", k=3)) for _ in range(count))


def pairs(rng: random.Random) -> dict[str, Any]:
    """A text, and the same with another word at the end."""
    text = words(rng, 4)
    return {"query": text, "positive": f"{text} {words(rng, 1)}"}


def scored(rng: random.Random) -> dict[str, Any]:
    """A text, and its length."""
    count = rng.randint(1, 8)
    return {"text": words(rng, count), "value": count / 4}


def packed(folder: Path, shard_format: RecordKind, record: Callable[[random.Random], Any]) -> Path:
    rng = random.Random(5)
    text = folder / "records.jsonl"
    text.write_text("".join(json.dumps(record(rng)) + "\n" for _ in range(40)))
    pack([str(text)], folder / "shards", vocabulary_size=VOCABULARY, shard_format=shard_format)
    return folder / "shards"


def rows_of(shards: Path, folder: Path, ranks: int, *overrides: str) -> list[dict[str, Any]]:
    config = tiny_config(shards, folder, overrides)
    assert run_ranks(train, ranks, config, folder / "metrics.jsonl") == [0] * ranks
    return read_rows(folder / "metrics.jsonl")


def check_layouts(shards: Path, folder: Path, *overrides: str) -> list[float]:
    """One rank, and three with single samples and fillers: the same losses, which fall."""
    one = rows_of(shards, folder / "one", 1, "training.microBatchSize=4", *overrides)
    three = rows_of(shards, folder / "three", 3, "training.microBatchSize=1", *overrides)
    assert [row["loss"] for row in three] == pytest.approx([row["loss"] for row in one], rel=3e-6)
    assert [row["gradientNorm"] for row in three] == pytest.approx(
        [row["gradientNorm"] for row in one], rel=1e-5
    )
    losses = [row["loss"] for row in one]
    assert losses[-1] < losses[0] - 0.05, "a loss that stands still proves nothing"
    return losses


def test_square_errors(tmp_path: Path) -> None:
    shards = packed(tmp_path, RecordKind.REGRESSION, scored)

    check_layouts(shards, tmp_path, "training.loss.name=mse")


def test_contrastive_is_over_the_global_batch(tmp_path: Path) -> None:
    shards = packed(tmp_path, RecordKind.PAIRS, pairs)

    check_layouts(shards, tmp_path, "training.loss={name: contrastive, temperature: 0.5}")


def test_ones_own(shards: Path, tmp_path: Path) -> None:
    losses = check_layouts(shards, tmp_path, f"training.loss.name={HERE}:lukewarm")

    assert losses[0] == pytest.approx(math.log(VOCABULARY), rel=0.01)


@pytest.mark.long
@pytest.mark.parametrize("name", ["mse", f"{HERE}:lukewarm"])
@pytest.mark.parametrize(
    ("ranks", "layout"),
    [
        pytest.param(2, "parallelism={tensor: 2}", id="tensor"),
        pytest.param(2, "parallelism={pipeline: 2}", id="pipeline"),
        pytest.param(
            4,
            "parallelism={tensor: 2, pipeline: 2, pipelineSchedule: ZBV, virtualStages: 2}",
            id="zbv-tensor",
        ),
    ],
)
def test_losses_that_want_the_whole_head(
    shards: Path, tmp_path: Path, name: str, ranks: int, layout: str
) -> None:
    if name == "mse":
        shards = packed(tmp_path, RecordKind.REGRESSION, scored)
    common = [f"training.loss.name={name}", "model.layers=4", "training.microBatchSize=4", "training.steps=3"]
    one = rows_of(shards, tmp_path / "one", 1, *common)
    more = rows_of(shards, tmp_path / "more", ranks, *common, layout)

    assert [row["loss"] for row in more] == pytest.approx([row["loss"] for row in one], rel=3e-6)
    assert [row["gradientNorm"] for row in more] == pytest.approx(
        [row["gradientNorm"] for row in one], rel=1e-5
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(["training.loss.name=no_such:loss"], "no module no_such", id="no-module"),
        pytest.param(
            [f"training.loss.name={HERE}:no_scalar"],
            "returned a tensor of shape [2]; return a scalar",
            id="no-scalar",
        ),
        pytest.param(["training.loss.name=mse"], "--format regression", id="other-data"),
        pytest.param(
            [f"training.loss.name={HERE}:lukewarm", "parallelism.context=2"],
            "parallelism.context 2 does not work with training.loss.name",
            id="context-ranks",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    shards: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    (first, _) = run_ranks(train_under, 2, FakeAgent(), tiny_config(shards, tmp_path, overrides))

    assert first.code == ExitCode.CONFIG
    assert message in first.stderr
    assert "Traceback" not in first.stderr
