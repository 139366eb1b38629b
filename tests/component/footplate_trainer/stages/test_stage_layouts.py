"""Stages sft, reward and dpo on real ranks: any layout and micro-batch is the training of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import torch

from footplate_trainer.loop.stepper import StepFlags, StepResult
from tests.support.layouts import Trained
from tests.support.stage_layouts import ROWS, StageLayouts, stage_distance

QUICK: Final = (
    ("sft", "noise", "context"),
    ("sft", "llama", "zbv"),
    ("reward", "gpt2", "tensor"),
    ("reward", "llama", "zbv"),
    ("kto", "gpt2", "three"),
    ("sigmoid", "adapter", "zbv"),
)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> StageLayouts:
    return StageLayouts(tmp_path_factory.mktemp("alone"))


def run(*losses: float, **means: float) -> Trained:
    results = [StepResult(step, loss, 1.0, 0.1, 1, StepFlags(), means) for step, loss in enumerate(losses)]
    return Trained(results, {"weight": torch.ones(2)})


@pytest.mark.parametrize(
    ("seen", "means"),
    [
        pytest.param(run(3.0, 2.0, 1.0, accuracy=0.5), (), id="the-same"),
        pytest.param(run(3.0, 2.0, 1.0, accuracy=0.51), ("accuracy",), id="another-mean"),
        pytest.param(run(3.0, 2.0, 1.0, accuracy=float("nan")), ("accuracy",), id="no-number"),
        pytest.param(run(3.0, 2.0, 1.0, margin=0.5), ("accuracy", "margin"), id="other-means"),
        pytest.param(run(3.0, float("nan"), 1.0, accuracy=0.5), (), id="no-loss-in-the-second-step"),
    ],
)
def test_a_layout_is_apart_where_any_number_of_its_rows_is(seen: Trained, means: tuple[str, ...]) -> None:
    expected = run(3.0, 2.0, 1.0, accuracy=0.5)
    found = stage_distance(seen, expected)
    assert found.means == means
    assert found.is_small == (seen.results == expected.results)


@pytest.mark.parametrize(("kind", "family", "layout"), QUICK)
def test_layouts(kind: str, family: str, layout: str, stages: StageLayouts, tmp_path: Path) -> None:
    found = stages.apart(kind, family, layout, tmp_path)
    assert found.is_small, found


@pytest.mark.long
@pytest.mark.parametrize(("kind", "family", "layout"), [row for row in ROWS if row not in QUICK])
def test_all_layouts(kind: str, family: str, layout: str, stages: StageLayouts, tmp_path: Path) -> None:
    found = stages.apart(kind, family, layout, tmp_path)
    assert found.is_small, found
