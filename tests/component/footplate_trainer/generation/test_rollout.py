"""Weights and answers of a model that trains are the same in any layout of a rollout as in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.layout_list import LAYOUTS
from tests.support.rollouts import Rolled, alone, rolled, stopped

BY_NAME = {layout.name: layout for layout in LAYOUTS}
Degrees = tuple[int, int]
"""(tensor, pipeline) of a rollout."""


def _check(found: Rolled, expected: Rolled) -> None:
    assert found.weights == expected.weights
    assert found.received == found.planned
    assert [answer.request for answer in found.answers] == [answer.request for answer in expected.answers]
    for ours, theirs in zip(found.answers, expected.answers, strict=True):
        assert (ours.tokens, ours.reason) == (theirs.tokens, theirs.reason)
        assert ours.full == pytest.approx(theirs.full, abs=1e-5)
        assert ours.sampled == pytest.approx(theirs.sampled, abs=1e-5)


def _check_all(name: str, asked: list[Degrees], shards: Path, folder: Path) -> None:
    expected = alone(BY_NAME[name], shards, folder / "alone")
    assert len({tuple(answer.tokens) for answer in expected.answers}) > 6, "equal answers prove nothing"
    for found in rolled(BY_NAME[name], asked, shards, folder / name):
        _check(found, expected)


def test_from_shards_to_tensor_and_to_pipeline(shards: Path, tmp_path: Path) -> None:
    _check_all("full", [(2, 1), (1, 2)], shards, tmp_path)


@pytest.mark.long
def test_all_ranks_of_a_copy_stop_together_and_go_on(shards: Path, tmp_path: Path) -> None:
    first, *others = stopped(BY_NAME["tensor-full"], (2, 2), shards, tmp_path)

    assert 0 < first[0] < first[1] == 12
    assert others == [first] * 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        pytest.param("pipeline-tensor-full", [(1, 1), (2, 2), (4, 2), (1, 4)], id="cube"),
        pytest.param("zbv-tensor-full", [(1, 1), (4, 1), (2, 4)], id="zbv"),
        pytest.param("tied-zbv-tensor-full", [(2, 2), (1, 4)], id="tied"),
        pytest.param("tensor-hybrid", [(4, 2), (1, 1)], id="copies"),
        pytest.param("context-pipeline", [(2, 1), (1, 1)], id="context"),
        pytest.param("multi-query-tensor-4", [(2, 2), (4, 1)], id="few-heads"),
        pytest.param("gpt2-cube", [(4, 1), (2, 2)], id="gpt2"),
        pytest.param("adapter-cube", [(4, 2), (1, 2)], id="adapters"),
        pytest.param("adapter-few-heads", [(4, 1), (2, 2)], id="adapters-few-heads"),
        pytest.param("offload-gpipe-none-tied", [(1, 4), (2, 1)], id="offloaded"),
    ],
)
def test_from_any_layout_to_any_other(name: str, asked: list[Degrees], shards: Path, tmp_path: Path) -> None:
    _check_all(name, asked, shards, tmp_path)
