"""A layout that cannot work ends a run before any rank starts, with every reason at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_trainer.errors import UserMistake
from footplate_trainer.stages.layout import require_layout
from tests.support.tiny import tiny_config


def test_every_reason_is_told(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, tmp_path)
    config = config.model_copy(update={"parallelism": config.parallelism.model_copy(update={"tensor": 3})})
    with pytest.raises(UserMistake) as refused:
        require_layout(config, 3)
    told = str(refused.value).splitlines()
    assert any("attentionHeads 4" in line for line in told) and len(told) > 1


def test_what_works_is_let_through(tmp_path: Path) -> None:
    require_layout(tiny_config(tmp_path, tmp_path), 2)
