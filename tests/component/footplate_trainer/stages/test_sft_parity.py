"""Stage sft does what TRL's sft does with the same folder and rows: losses, gradient norms and weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.posttraining.parity import golden
from bench.posttraining.parity.comparison import compared
from bench.posttraining.parity.stages import NAMES, QUICK, runs_of

SFT = [name for name in NAMES if name.startswith("sft-")]
LONG = [name for name in SFT if name not in QUICK]


def _is_that_of_trl(name: str, folder: Path, ranks: int = 1, micro_batch: int = 1) -> None:
    run = runs_of([name], folder)[name]
    told = golden.read("stages", name, run)
    found = compared(name, told, run.model, folder, ranks=ranks, micro_batch=micro_batch).found
    assert found.are_small, found


@pytest.mark.parametrize("name", [name for name in SFT if name in QUICK])
def test_each_step_is_that_of_trl(name: str, tmp_path: Path) -> None:
    _is_that_of_trl(name, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "ranks", "micro_batch"),
    [
        *((name, 1, 1) for name in LONG),
        *((name, 2, 1) for name in SFT),
        *(("sft-assistant-sgd", 1, size) for size in (2, 4)),
    ],
)
def test_each_step_of_every_kind_is_that_of_trl(
    name: str, ranks: int, micro_batch: int, tmp_path: Path
) -> None:
    _is_that_of_trl(name, tmp_path, ranks, micro_batch)
