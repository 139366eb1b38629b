"""Stages grpo and ppo on real ranks: any layout, of either family of decoders, is the same as one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rollout_layouts import ROWS, RolloutLayouts


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> RolloutLayouts:
    return RolloutLayouts(tmp_path_factory.mktemp("alone"))


@pytest.mark.long
@pytest.mark.parametrize(("stage", "family", "layout"), ROWS)
def test_all_layouts(stage: str, family: str, layout: str, stages: RolloutLayouts, tmp_path: Path) -> None:
    found = stages.apart(stage, family, layout, tmp_path)
    assert found.is_small, found
