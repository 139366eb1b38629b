"""Saved on one layout, loaded on another: the same tensors, and losses that go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.checkpoints import begin, equal, whole_tensors
from tests.support.ranks import run_ranks
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import FakeAgent, train, train_under

SAVED_AT: Final = 3

# name -> ranks, parallelism
LAYOUTS: Final[dict[str, tuple[int, list[str]]]] = {
    "whole-1": (1, ["sharding=none"]),
    "whole-2": (2, ["sharding=none"]),
    "full-2": (2, ["sharding=full"]),
    "full-3": (3, ["sharding=full"]),
    "full-4": (4, ["sharding=full"]),
    "optimizer-2": (2, ["sharding=zero1"]),
    "hybrid-2x2": (4, ["sharding=hybrid", "replicas=2"]),
    "tensor-2": (2, ["tensor=2"]),
    "context-2": (2, ["context=2"]),
    "pipeline-2": (2, ["pipeline=2"]),
    "tensor-2-pipeline-2": (4, ["tensor=2", "pipeline=2"]),
}


def overrides(layout: str) -> list[str]:
    return [f"parallelism.{setting}" for setting in LAYOUTS[layout][1]]


@pytest.fixture(scope="module")
def saved(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run that was suspended on a layout; each is made once."""
    made: dict[str, Path] = {}

    def save(layout: str) -> Path:
        if layout not in made:
            folder = tmp_path_factory.mktemp(layout)
            config = tiny_config(shards, folder, overrides(layout))
            ended = run_ranks(train_under, LAYOUTS[layout][0], FakeAgent(suspend_after=SAVED_AT - 1), config)
            assert {end.code for end in ended} == {ExitCode.SUSPENDED}, ended[0].stderr
            made[layout] = folder
        return made[layout]

    return save


@pytest.fixture(scope="module")
def alone(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of one process that nothing happened to."""
    folder = tmp_path_factory.mktemp("alone")
    run_ranks(train, 1, tiny_config(shards, folder), folder / "metrics.jsonl")
    return read_rows(folder / "metrics.jsonl")


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("tensor-2", "pipeline-2", id="tensor-to-pipeline"),
        pytest.param("full-2", "tensor-2", id="full-to-tensor", marks=LONG),
        pytest.param("pipeline-2", "full-3", id="pipeline-to-three-shards", marks=LONG),
        pytest.param("full-3", "hybrid-2x2", id="three-shards-to-hybrid", marks=LONG),
        pytest.param("hybrid-2x2", "whole-1", id="hybrid-to-one", marks=LONG),
        pytest.param("whole-1", "tensor-2-pipeline-2", id="one-to-both", marks=LONG),
        pytest.param("tensor-2-pipeline-2", "full-2", id="both-to-full", marks=LONG),
        pytest.param("context-2", "optimizer-2", id="context-to-optimizer", marks=LONG),
        pytest.param("optimizer-2", "full-4", id="optimizer-to-full", marks=LONG),
        pytest.param("full-4", "whole-2", id="full-to-whole", marks=LONG),
    ],
)
def test_what_one_layout_saves_another_loads(
    shards: Path,
    tmp_path: Path,
    saved: Callable[[str], Path],
    alone: list[dict[str, Any]],
    before: str,
    after: str,
) -> None:
    shutil.copytree(saved(before) / "checkpoints", tmp_path / "checkpoints")
    config, ranks = tiny_config(shards, tmp_path, overrides(after)), LAYOUTS[after][0]
    expected = whole_tensors(CheckpointStore(tmp_path / "checkpoints"), SAVED_AT)

    held: dict[str, Any] = {}
    for start, named in run_ranks(begin, ranks, config):
        assert start.step == SAVED_AT
        assert equal(named, expected, *named)
        held |= named
    assert held.keys() == expected.keys()

    assert run_ranks(train, ranks, config, tmp_path / "metrics.jsonl") == [0] * ranks
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 5, 6]
    reference = alone[SAVED_AT:]
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in reference], rel=3e-6)
    assert [row["sampleDigest"] for row in rows] == [row["sampleDigest"] for row in reference]
