"""Stage reward does what TRL's RewardTrainer does with the same folder and rows: losses, norms and weights.

TRL looks for the last token that is no padding. The folder's padding is a token of its own, so that it finds
the one that ends the answer, whose place is known here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.posttraining.parity import golden
from bench.posttraining.parity.comparison import compared
from bench.posttraining.parity.stages import NAMES, QUICK, runs_of

REWARD = [name for name in NAMES if name.startswith("reward-")]


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        pytest.param(name, ranks, marks=() if name in QUICK and ranks == 1 else pytest.mark.long)
        for name in REWARD
        for ranks in (1, 2)
    ],
)
def test_each_step_is_that_of_trl(name: str, ranks: int, tmp_path: Path) -> None:
    run = runs_of([name], tmp_path)[name]
    told = golden.read("stages", name, run)
    ours = compared(name, told, run.model, tmp_path, ranks=ranks)
    assert ours.found.are_small, ours.found
    for row, theirs in zip(ours.rows, told.logs, strict=True):
        assert row.values is not None
        assert row.values["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-6)
        assert row.values["margin"] == pytest.approx(theirs["margin"], abs=1e-5)
