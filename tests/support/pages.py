"""A page of docs/ as whoever follows it has it: its blocks, its commands and its runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from footplate_trainer.__main__ import main

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACE: Final = re.compile(r"(?<=[ \"])/(?=(data|models|checkpoints)/)")


@dataclass(frozen=True)
class Page:
    """A page whose /data, /models and /checkpoints lie in `folder`, and so do files that it names alone."""

    name: str
    folder: Path

    @property
    def text(self) -> str:
        """As it stands there, but for places."""
        return _PLACE.sub(f"{self.folder}/", (DOCS / self.name).read_text())

    @property
    def all_blocks(self) -> list[tuple[str, str]]:
        """Language and content, in the order of the page."""
        return _BLOCK.findall(self.text)

    def blocks(self, language: str) -> list[str]:
        """Those of one language."""
        return [content for found, content in self.all_blocks if found == language]

    def run(self, line: str, changes: Sequence[str] = ()) -> None:
        """A command of the page, with `changes` of the run that it trains."""
        program, *words = shlex.split(line)
        assert program == "footplate-trainer"
        there = [str(self.folder / word) if (self.folder / word).is_file() else word for word in words]
        assert main([*there, *(word for change in changes for word in ("--set", change))]) == 0, line

    def train(self, number: int, changes: Sequence[str]) -> None:
        """The run of the block of YAML of that number, from 0, with `changes`."""
        self.train_run(self.blocks("yaml")[number], changes)

    def train_run(self, manifest: str, changes: Sequence[str]) -> None:
        """The run of a manifest that follows from the page, with `changes`."""
        (self.folder / "run.yaml").write_text(manifest)
        self.run(f"footplate-trainer train run.yaml --metrics {self.rows}", changes)

    @property
    def rows(self) -> str:
        """Where rows go of what it trains."""
        return str(self.folder / "rows.jsonl")
