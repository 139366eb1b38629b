"""What a checkpoint carries of the history: the rows that nobody has said are stored."""

from __future__ import annotations

import pytest

from footplate_contracts.reports import GenerationId, GenerationRow
from footplate_elastic.protocol.unstored_rows import RowKey, UnstoredRows
from tests.support.samples import shown
from tests.unit.footplate_elastic.coordinator.test_telemetry import G1, G2, row


def given(*names: tuple[GenerationId, int], most: int = 100) -> UnstoredRows:
    unstored = UnstoredRows(most)
    for generation, step in names:
        unstored.add(GenerationRow(generation=generation, metrics=row(step)))
    return unstored


def steps(unstored: UnstoredRows) -> list[int]:
    return [row.metrics.step for row in unstored.to_list()]


@pytest.mark.parametrize(
    ("stored", "left"),
    [
        pytest.param(RowKey(G1, 5), [6, 6, 7], id="and-those-before"),
        pytest.param(RowKey(G2, 6), [7], id="of-the-same-step-the-generation-decides"),
        pytest.param(RowKey(G2, 7), [], id="the-last"),
        pytest.param(RowKey(G1, 7), [4, 5, 6, 6, 7], id="one-that-was-trained-again-says-nothing"),
        pytest.param(RowKey(G1, 3), [4, 5, 6, 6, 7], id="one-that-is-no-more"),
    ],
)
def test_what_is_stored_is_left_out(stored: RowKey, left: list[int]) -> None:
    unstored = given((G1, 4), (G1, 5), (G1, 6), (G2, 6), (G2, 7))
    unstored.remove_stored(stored)
    assert steps(unstored) == left


def test_the_newest_rows_have_their_samples() -> None:
    unstored = UnstoredRows(most=4, with_samples=2)
    for step in range(1, 7):
        unstored.add(GenerationRow(generation=G1, metrics=row(step), samples=[shown(step)]))
    assert steps(unstored) == [3, 4, 5, 6]
    assert [held.samples for held in unstored.to_list()] == [None, None, [shown(5)], [shown(6)]]


def test_of_too_many_the_newest_are_kept() -> None:
    unstored = given(*((G1, step) for step in range(1, 6)), most=3)
    assert steps(unstored) == [3, 4, 5]
    unstored.remove_stored(RowKey(G1, 4))
    assert steps(unstored) == [5]
