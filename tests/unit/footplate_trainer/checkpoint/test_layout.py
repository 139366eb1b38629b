"""Names, and what retention keeps."""

from __future__ import annotations

import pytest

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.layout import (
    StepDirectory,
    marker_name,
    marker_step,
    removable_directories,
    retained_steps,
)


def test_names_are_read_as_they_are_written() -> None:
    directory = StepDirectory.of(200, GenerationId(epoch=1, number=3))

    assert directory.name == "step-200.e1g3"
    assert StepDirectory.parse(directory.name) == directory
    assert marker_step(marker_name(200)) == 200


@pytest.mark.parametrize("name", ["step-200.committed", "step-x.e1g1", "step-1.e1g1.tmp", "lost+found"])
def test_other_names_are_no_directories(name: str) -> None:
    assert StepDirectory.parse(name) is None


@pytest.mark.parametrize("name", ["step-200.e1g3", "step-.committed", "step-1.committed~"])
def test_other_names_are_no_markers(name: str) -> None:
    assert marker_step(name) is None


@pytest.mark.parametrize(
    ("committed", "last", "every", "kept"),
    [
        pytest.param([10, 20, 30], 2, None, {20, 30}, id="the-newest"),
        pytest.param([10, 20, 30], 5, None, {10, 20, 30}, id="fewer-than-allowed"),
        pytest.param([10, 20, 30, 40], 1, 20, {20, 40}, id="and-the-multiples"),
        pytest.param([30, 10, 40, 20], 1, 20, {20, 40}, id="in-any-order"),
        pytest.param([3, 4], 1, 5, {4}, id="no-multiple-among-them"),
        pytest.param([5], 1, None, {5}, id="the-only-one"),
        pytest.param([], 3, 10, set(), id="none"),
    ],
)
def test_retained_steps(committed: list[int], last: int, every: int | None, kept: set[int]) -> None:
    assert retained_steps(committed, last, every) == kept


def test_losers_and_remains_go_and_what_is_ahead_stays() -> None:
    kept, old, loser, newer, mine, ahead, left = (
        StepDirectory(20, 1, 2),
        StepDirectory(10, 1, 1),
        StepDirectory(20, 1, 1),
        StepDirectory(20, 1, 3),
        StepDirectory(15, 1, 2),
        StepDirectory(25, 1, 2),
        StepDirectory(25, 1, 1),
    )

    found = removable_directories(
        [kept, old, loser, newer, mine, ahead, left], kept=[kept], writing=GenerationId(epoch=1, number=2)
    )

    assert found == [old, loser, mine, left]
