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
            ["model.a: shape [2, 3] in the checkpoint, shape [2, 4] in this run"],
            id="another-shape",
        ),
        pytest.param(
            {"model.a": (2,), "model.b": (3,)},
            {"model.a": (2,)},
            ["model.b: shape [3] in the checkpoint, not present in this run"],
            id="surplus",
        ),
        pytest.param(
            {},
            {"model.a": (2,)},
            ["model.a: not present in the checkpoint, shape [2] in this run"],
            id="missing",
        ),
    ],
)
def test_misfits(there: Shapes, here: Shapes, found: list[str]) -> None:
    assert find_mismatches(there, here) == found
