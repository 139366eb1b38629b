"""What a step sends, against the formulas of the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.trainer.collectives import LAYOUTS, count, formula

from footplate_trainer.config import model_shape
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param(name, id=name.replace(" ", "-")) for name in LAYOUTS])
def test_collectives_are_those_of_the_formula(shards: Path, tmp_path: Path, name: str) -> None:
    ranks, overrides = LAYOUTS[name]
    config = tiny_config(shards, tmp_path, overrides)
    assert set(map(str, run_ranks(count, ranks, config))) == {
        str(formula(model_shape(config), config, ranks))
    }
