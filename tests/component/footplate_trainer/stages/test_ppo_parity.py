"""Stage ppo does what a textbook's loop does with the same answers and scores: losses, norms and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from bench.posttraining.parity.ppo import NAMES, compared

QUICK: Final = ("ppo-defaults-sgd", "ppo-k2-after-the-end-sgd")


@pytest.mark.parametrize(
    ("name", "ranks", "micro_batch", "more"),
    [
        *(
            pytest.param(name, 1, 2, (), id=name, marks=() if name in QUICK else pytest.mark.long)
            for name in NAMES
        ),
        *(
            pytest.param("ppo-k2-after-the-end-sgd", ranks, 1, more, id=f"{label}", marks=pytest.mark.long)
            for label, ranks, more in (
                ("two", 2, ()),
                ("three", 3, ()),
                ("full", 2, ("parallelism={sharding: full}",)),
                ("context", 2, ("parallelism={context: 2}",)),
                ("pipeline", 2, ("parallelism={pipeline: 2}",)),
            )
        ),
    ],
)
def test_each_step_is_that_of_the_textbook(
    name: str,
    ranks: int,
    micro_batch: int,
    more: Sequence[str],
    tmp_path: Path,
) -> None:
    found = compared(name, tmp_path, tmp_path, ranks=ranks, micro_batch=micro_batch, more=more).found
    assert found.are_small, found
