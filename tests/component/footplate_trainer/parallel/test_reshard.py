"""A run that goes on in another layout is the run that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.layout_list import LAYOUTS, OPTIMIZERS, Layout
from tests.support.ranks import run_ranks
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import train

BY_NAME = {layout.name: layout for layout in LAYOUTS}
BASE = ("model.layers=4", "training.microBatchSize=1", "training.schedule={name: constant}")
SHORT = ("tensor-context", "zbv")
LONG = (
    ("full", "pipeline-tensor-full"),
    ("pipeline-tensor-full", "none"),
    ("interleaved", "tensor-hybrid"),
    ("zbv-tensor-full", "context-full"),
    ("tensor-4", "pipeline-4"),
    ("pipeline-optimizer", "one"),
    ("tied-zbv-tensor-full", "tied-pipeline"),
    ("tied-tensor", "tied-zbv-tensor-full"),
    ("adapter-tensor-full", "adapter-cube"),
)


def rows_of(shards: Path, folder: Path, layout: Layout, steps: int, optimizer: str) -> list[dict[str, Any]]:
    asked = (*BASE, *OPTIMIZERS[optimizer], f"training.steps={steps}", *layout.overrides)
    config = tiny_config(shards, folder, asked)
    assert run_ranks(train, layout.ranks, config, folder / "metrics.jsonl") == [0] * layout.ranks
    return read_rows(folder / "metrics.jsonl")


def _check(shards: Path, folder: Path, names: tuple[str, str], optimizer: str) -> None:
    first, second = (BY_NAME[name] for name in names)
    alone = Layout("alone", 1, {}, first.model)
    expected = rows_of(shards, folder / "alone", alone, 5, optimizer)

    rows_of(shards, folder / "moved", first, 2, optimizer)
    moved = rows_of(shards, folder / "moved", second, 5, optimizer)

    assert [row["step"] for row in moved] == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in moved] == pytest.approx([row["loss"] for row in expected], rel=3e-6)
    assert [row["gradientNorm"] for row in moved] == pytest.approx(
        [row["gradientNorm"] for row in expected], rel=1e-5
    )


def test_from_one_layout_to_another(shards: Path, tmp_path: Path) -> None:
    _check(shards, tmp_path, SHORT, "adamw")


@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("names", [pytest.param(pair, id="-to-".join(pair)) for pair in LONG])
def test_from_any_layout_to_any_other(
    shards: Path, tmp_path: Path, names: tuple[str, str], optimizer: str
) -> None:
    _check(shards, tmp_path, names, optimizer)
