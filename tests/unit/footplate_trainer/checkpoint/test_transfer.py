"""What two runs must have in common for one to start from the other."""

from __future__ import annotations

import pytest

from footplate_trainer.checkpoint.durable.warm_start import Shapes, find_mismatches


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        pytest.param({"model.a": (2, 3)}, {"model.a": (2, 3)}, [], id="equal"),
        pytest.param(
            {"model.a": (2, 3)},
            {"model.a": (2, 4)},
            ["model.a has shape [2, 3] there and shape [2, 4] here"],
            id="another-shape",
        ),
        pytest.param(
            {"model.a": (2,), "model.b": (3,)},
            {"model.a": (2,)},
            ["model.b has shape [3] there and no place here"],
            id="surplus",
        ),
        pytest.param({}, {"model.a": (2,)}, ["model.a has no place there and shape [2] here"], id="missing"),
    ],
)
def test_misfits(there: Shapes, here: Shapes, found: list[str]) -> None:
    assert find_mismatches(there, here) == found
