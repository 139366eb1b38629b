"""Stage grpo does what TRL's GRPO does with the same answers and rewards: losses, norms and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from bench.posttraining.parity.formula_cases import answers
from bench.posttraining.parity.oracle import seen, shared_root
from bench.posttraining.parity.rollouts import NAMES, compared, policy, runs_of

QUICK: Final = ("grpo", "dapo", "dr-grpo-twice")  # of three steps, in one process with all others by TRL


@pytest.mark.parametrize("name", QUICK)
def test_each_step_is_that_of_trl(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trl = answers(tmp_path_factory)
    found = compared(f"{name}-sgd", trl.seen[name], trl.folders["lm_head"], tmp_path).found
    assert found.are_small, found


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "ranks", "micro_batch"),
    [
        *((name, 1, 2) for name in NAMES),
        *(("dapo-sgd", ranks, size) for ranks, size in ((1, 1), (1, 4), (2, 2), (3, 1))),
    ],
)
def test_each_of_five_steps_is_that_of_trl(
    name: str, ranks: int, micro_batch: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = shared_root(tmp_path_factory)
    told, model = seen(runs_of(NAMES, root), root)[name], policy(root)
    found = compared(name, told, model, tmp_path, ranks=ranks, micro_batch=micro_batch).found
    assert found.are_small, found
