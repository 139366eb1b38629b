"""Stage dpo does what TRL's trainers do with the same folder and rows: losses, gradient norms and weights.

Our micro-batch is one row throughout.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.posttraining.parity import golden
from bench.posttraining.parity.comparison import compared
from bench.posttraining.parity.stages import NAMES, QUICK, runs_of


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.long)
        for name in NAMES
        if name.startswith("dpo-")
    ],
)
def test_each_step_is_that_of_trl(name: str, tmp_path: Path) -> None:
    run = runs_of([name], tmp_path)[name]
    found = compared(name, golden.read("stages", name, run), run.model, tmp_path).found
    assert found.are_small, found
