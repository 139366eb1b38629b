"""On a CPU, shards in the host's memory are where they are anyway: the run is the same, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.ranks import run_ranks
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import train


def rows_of(shards: Path, folder: Path, offload: str, steps: int) -> list[dict[str, Any]]:
    asked = (
        f"parallelism.offload={offload}",
        f"training.steps={steps}",
        "training.schedule={name: constant}",
    )
    config = tiny_config(shards, folder, asked)
    assert run_ranks(train, 2, config, folder / "metrics.jsonl") == [0, 0]
    return read_rows(folder / "metrics.jsonl")


def test_a_run_may_offload_and_cease_to(shards: Path, tmp_path: Path) -> None:
    expected = rows_of(shards, tmp_path / "none", "none", 4)

    rows_of(shards, tmp_path / "both", "cpu", 2)
    both = rows_of(shards, tmp_path / "both", "none", 4)

    bits = ("loss", "gradientNorm", "sampleDigest")
    assert [[row[name] for name in bits] for row in both] == [
        [row[name] for name in bits] for row in expected
    ]
