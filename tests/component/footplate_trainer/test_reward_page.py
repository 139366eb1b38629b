"""docs/reward-models.md does what it says: its rows, commands, run and program, in this order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.place import newest_whole
from tests.support.chat_model import write_chat_model
from tests.support.scores import our_scores

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reward-models.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What takes hours on the page's hardware, and the longest text of the model that stands in for its own.
_SMALLER = (
    "model.contextLength=256",
    "training.steps=3",
    "training.globalBatchSize=1",
    "training.schedule={}",
)


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = re.sub(r"(?<=[ \"])/(?=(data|models|checkpoints)/)", f"{tmp_path}/", PAGE.read_text())
    blocks = _BLOCK.findall(text)
    write_chat_model(tmp_path / "models" / "chat", [256, 258])
    said: dict[str, Any] = {}
    for language, content in blocks:
        match language:
            case "json":
                (tmp_path / "pairs.jsonl").write_text(content)
            case "yaml":
                (tmp_path / "run.yaml").write_text(content)
                assert yaml.safe_load(content)["spec"]["stage"] == "reward"
            case "sh":
                for line in content.splitlines():
                    _run(line, tmp_path)
            case "python":
                exec(compile(content, str(PAGE), "exec"), said)
    assert [language for language, _ in blocks] == ["json", "sh", "yaml", "sh", "python"]
    checkpoints = tmp_path / "checkpoints" / "helpfulness"
    assert newest_whole(str(checkpoints)).state().scores is not None
    assert "held-out scores" in capsys.readouterr().out
    _, ours = our_scores(checkpoints, tmp_path / "data" / "pairs")
    for score in said["scores"]:
        assert min(abs(score - other) for other in ours) < 1e-5, "of the two answers of the first row"


def _run(line: str, folder: Path) -> None:
    program, *words = shlex.split(line)
    assert program == "footplate-trainer"
    words = [str(folder / word) if word in ("pairs.jsonl", "run.yaml") else word for word in words]
    if words[0] == "train":
        words += [word for change in _SMALLER for word in ("--set", change)]
    assert main(words) == 0
