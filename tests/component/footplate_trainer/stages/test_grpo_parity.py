"""Stage grpo does what TRL's GRPO does with the same answers and rewards: losses, norms and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from bench.posttraining.parity import golden
from bench.posttraining.parity.rollouts import NAMES, compared, runs_of

QUICK: Final = ("grpo-sgd", "dapo-sgd", "dr-grpo-twice-sgd")


@pytest.mark.parametrize(
    ("name", "ranks", "micro_batch"),
    [
        *(pytest.param(name, 1, 2, marks=() if name in QUICK else pytest.mark.long) for name in NAMES),
        *(
            pytest.param("dapo-sgd", ranks, size, marks=pytest.mark.long)
            for ranks, size in ((1, 1), (1, 4), (2, 2), (3, 1))
        ),
    ],
)
def test_each_of_five_steps_is_that_of_trl(name: str, ranks: int, micro_batch: int, tmp_path: Path) -> None:
    run = runs_of([name], tmp_path)[name]
    told = golden.read("rollouts", name, run)
    found = compared(name, told, run.model, tmp_path, ranks=ranks, micro_batch=micro_batch).found
    assert found.are_small, found
