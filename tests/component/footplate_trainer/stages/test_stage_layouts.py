"""Stages sft, reward and dpo on real ranks: any layout and micro-batch is the training of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.stage_layouts import ROWS, StageLayouts

QUICK: Final = (
    ("sft", "noise", "context"),
    ("sft", "llama", "zbv"),
    ("reward", "gpt2", "tensor-context"),
    ("reward", "llama", "zbv"),
    ("kto", "gpt2", "three"),
    ("sigmoid", "adapter", "zbv"),
)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> StageLayouts:
    return StageLayouts(tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize(("kind", "family", "layout"), QUICK)
def test_layouts(kind: str, family: str, layout: str, stages: StageLayouts, tmp_path: Path) -> None:
    found = stages.apart(kind, family, layout, tmp_path)
    assert found.is_small, found


@pytest.mark.long
@pytest.mark.parametrize(("kind", "family", "layout"), [row for row in ROWS if row not in QUICK])
def test_all_layouts(kind: str, family: str, layout: str, stages: StageLayouts, tmp_path: Path) -> None:
    found = stages.apart(kind, family, layout, tmp_path)
    assert found.is_small, found
