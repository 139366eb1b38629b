"""Every layout is the same run: losses, gradient norms and weights after five steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import layouts
from tests.support.layout_list import ADAMW, LAYOUTS, OPTIMIZERS, Layout
from tests.support.layouts import Trained, distance

# Those that together touch every axis; the others take minutes.
SHORT = {"zbv", "tensor-context", "pipeline-tensor-full"}


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


def _check(
    layout: Layout,
    optimizer: str,
    references: dict[tuple[tuple[str, ...], str], Trained],
    shards: Path,
    folder: Path,
) -> None:
    key = (layout.model, optimizer)
    if key not in references:
        alone = Layout("alone", 1, {}, layout.model)
        references[key] = layouts.train(alone, OPTIMIZERS[optimizer], shards, folder / "alone")

    trained = layouts.train(layout, OPTIMIZERS[optimizer], shards, folder)

    found = distance(trained, references[key])
    assert found.is_small, found


@pytest.mark.parametrize(("layout", "optimizer"), _rows(SHORT))
def test_layout(
    layout: Layout,
    optimizer: str,
    references: dict[tuple[tuple[str, ...], str], Trained],
    shards: Path,
    tmp_path: Path,
) -> None:
    _check(layout, optimizer, references, shards, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(("layout", "optimizer"), _rows({layout.name for layout in LAYOUTS}))
def test_every_layout(
    layout: Layout,
    optimizer: str,
    references: dict[tuple[tuple[str, ...], str], Trained],
    shards: Path,
    tmp_path: Path,
) -> None:
    _check(layout, optimizer, references, shards, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", ["tensor-context", "zbv-tensor-full", "pipeline-hybrid"])
def test_the_same_layout_twice_is_the_same_bits(name: str, shards: Path, tmp_path: Path) -> None:
    (layout,) = (layout for layout in LAYOUTS if layout.name == name)

    first, second = (layouts.train(layout, ADAMW, shards, tmp_path / run) for run in "12")

    assert first.results == second.results
    for weight, whole in first.parameters.items():
        assert torch.equal(whole, second.parameters[weight]), weight


@pytest.mark.long
@pytest.mark.parametrize("name", ["tensor-context", "pipeline-tensor-full", "zbv"])
def test_bf16_follows_fp32(name: str, shards: Path, tmp_path: Path) -> None:
    (layout,) = (layout for layout in LAYOUTS if layout.name == name)
    alone = layouts.train(Layout("alone", 1, {}), ADAMW, shards, tmp_path / "alone")

    trained = layouts.train(layout, (*ADAMW, "training.precision=bf16"), shards, tmp_path / "bf16")

    found = distance(trained, alone)
    assert 0 < found.loss <= 3e-3
