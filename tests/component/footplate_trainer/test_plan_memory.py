"""The plan's memory against what real ranks hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.trainer.plan_memory import BAR, ROWS, compare

from tests.support.nonempty import nonempty

QUICK = "full x 2, short sequences"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, id=name.replace(" ", "-"), marks=() if name == QUICK else pytest.mark.long)
        for name in ROWS
    ],
)
def test_the_plan_foresees_the_peak(shards: Path, tmp_path: Path, name: str) -> None:
    for _, estimated, tracked in nonempty(compare(name, shards, tmp_path)):
        assert estimated == pytest.approx(tracked, rel=BAR)
