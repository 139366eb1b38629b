"""docs/reward-models.md does what it says: its rows, commands, run and program, in this order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from footplate_trainer.checkpoint.lookup import find_newest_whole
from tests.support.chat_model import write_chat_model
from tests.support.pages import Page
from tests.support.scores import our_scores

# What takes hours on the page's hardware, and the longest text of the model that stands in for its own.
_SMALLER = (
    "model.contextLength=256",
    "training.steps=3",
    "training.globalBatchSize=1",
    "training.schedule={}",
)


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page("reward-models.md", tmp_path)
    write_chat_model(tmp_path / "models" / "chat", [256, 258])
    said: dict[str, Any] = {}
    for language, content in page.all_blocks:
        match language:
            case "json":
                (tmp_path / "pairs.jsonl").write_text(content)
            case "yaml":
                (tmp_path / "run.yaml").write_text(content)
                assert yaml.safe_load(content)["spec"]["stage"] == "reward"
            case "sh":
                for line in content.replace("\\\n", "").splitlines():
                    page.run(line, _SMALLER if " train " in line else ())
            case "python":
                exec(compile(content, page.name, "exec"), said)
    assert [language for language, _ in page.all_blocks] == ["json", "sh", "yaml", "sh", "python"]
    checkpoints = tmp_path / "checkpoints" / "helpfulness"
    assert find_newest_whole(str(checkpoints)).state().scores is not None
    assert "held-out scores" in capsys.readouterr().out
    _, ours = our_scores(checkpoints, tmp_path / "data" / "pairs")
    for score in said["scores"]:
        assert min(abs(score - other) for other in ours) < 1e-5, "of the two answers of the first row"
