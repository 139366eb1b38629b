"""What a step sends and how long a pipeline waits, against the formulas of the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.trainer.collectives import COUNTED, rows

from tests.support.layout_list import Layout
from tests.support.nonempty import nonempty

QUICK = ("zbv", "tensor-full")  # between them, data, tensor and pipeline ranks


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(layout, id=layout.name, marks=() if layout.name in QUICK else pytest.mark.long)
        for layout in COUNTED
    ],
)
def test_a_step_is_as_foreseen(shards: Path, tmp_path: Path, layout: Layout) -> None:
    for row in nonempty(rows(layout, shards, tmp_path)):
        assert (row.what, row.counted) == (row.what, row.formula)
