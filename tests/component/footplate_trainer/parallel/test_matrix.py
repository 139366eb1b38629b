"""Every layout is the same run: losses, gradient norms and weights after five steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import layouts
from tests.support.layout_list import ADAMW, IN_BF16, LAYOUTS, OPTIMIZERS, Layout
from tests.support.layouts import Distance, Trained, distance

# Those that together touch every axis; the others take minutes.
SHORT = {"zbv", "pipeline-tensor-full"}  # those of test_reshard beside them


@pytest.fixture(scope="module")
def references() -> dict[tuple[tuple[str, ...], str], Trained]:
    """One process, by model and optimizer; filled as needed."""
    return {}


def _rows(names: set[str]) -> list[object]:
    return [
        pytest.param(layout, optimizer, id=f"{layout.name}-{optimizer}")
        for layout in LAYOUTS
        for optimizer in OPTIMIZERS
        if layout.name in names and (names != SHORT or optimizer == "sgd")
    ]


def _apart(
    layout: Layout,
    optimizer: str,
    references: dict[tuple[tuple[str, ...], str], Trained],
    shards: Path,
    folder: Path,
) -> Distance:
    """How far `layout` is from one process."""
    key = (layout.model, optimizer)
    if key not in references:
        alone = Layout("alone", 1, {}, layout.model)
        references[key] = layouts.train(alone, OPTIMIZERS[optimizer], shards, folder / "alone")

    return distance(layouts.train(layout, OPTIMIZERS[optimizer], shards, folder), references[key])


@pytest.mark.parametrize(("layout", "optimizer"), _rows(SHORT))
def test_layout(
    layout: Layout,
    optimizer: str,
    references: dict[tuple[tuple[str, ...], str], Trained],
    shards: Path,
    tmp_path: Path,
) -> None:
    found = _apart(layout, optimizer, references, shards, tmp_path)
    assert found.is_small, found


@pytest.mark.long
@pytest.mark.parametrize(("layout", "optimizer"), _rows({layout.name for layout in LAYOUTS}))
def test_every_layout(
    layout: Layout,
    optimizer: str,
    references: dict[tuple[tuple[str, ...], str], Trained],
    shards: Path,
    tmp_path: Path,
) -> None:
    found = _apart(layout, optimizer, references, shards, tmp_path)
    assert found.is_small, found


@pytest.mark.long
@pytest.mark.parametrize("name", ["tensor-context", "zbv-tensor-full", "pipeline-hybrid"])
def test_the_same_layout_twice_is_the_same_bits(name: str, shards: Path, tmp_path: Path) -> None:
    (layout,) = (layout for layout in LAYOUTS if layout.name == name)

    first, second = (layouts.train(layout, ADAMW, shards, tmp_path / run) for run in "12")

    assert first.results == second.results
    for weight, whole in first.parameters.items():
        assert torch.equal(whole, second.parameters[weight]), weight


@pytest.mark.long
@pytest.mark.parametrize("layout", [pytest.param(layout, id=layout.name) for layout in IN_BF16])
def test_bf16_follows_fp32(
    layout: Layout,
    references: dict[tuple[tuple[str, ...], str], Trained],
    shards: Path,
    tmp_path: Path,
) -> None:
    found = _apart(layout, "adamw", references, shards, tmp_path)

    assert 0 < found.loss <= 3e-3
