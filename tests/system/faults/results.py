"""What came of cells, kept by commit, so that a second call goes on where the first one was.

One line of JSON for each cell and place (simulated, or on pods), the newest of which counts. A tree with
changes that are not committed has a key of its own, made of these changes.

What the page is made of is recorded beside it, as such lines: so a cell that is played again is written to
the page without all others, each with the commit and the day of which it is.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cluster.paths import cache_root
from demo.kube import ROOT

SIMULATED: Final = "simulated"
PODS: Final = "pods"
HISTORIES: Final = 5000
RANDOM: Final = (f"{HISTORIES} random histories", "any", SIMULATED)  # the key of their result
# Which these results are written to, and so are no changes of the tree.
PAGE: Final = "docs/fault-matrix.md"
RECORD: Final = "docs/fault-matrix.jsonl"
_WRITTEN: Final = (f":!{PAGE}", f":!{RECORD}")


@dataclass
class Result:
    """What came of a cell, simulated or on pods."""

    fault: str
    phase: str
    where: str = PODS
    seconds: float | None = None  # from the fault until the run was where it should be
    said: float | None = None  # the longest from an evidence to the status, in seconds
    causes: list[str] = field(default_factory=list)  # counted since the fault
    proof: str = ""  # of the phase
    error: str = ""  # why it is red; empty: green
    commit: str = ""  # on which it was played
    day: str = ""  # when

    @property
    def green(self) -> bool:
        """Whether all was right."""
        return not self.error

    @property
    def key(self) -> tuple[str, str, str]:
        """Of which cell it is, and where it was played."""
        return self.fault, self.phase, self.where


def tree_key(root: Path = ROOT) -> str:
    """The commit that is checked out, and what was changed since, if anything was."""
    commit = _git(root, "rev-parse", "--short=10", "HEAD").strip()
    changes = _git(root, "diff", "HEAD", "--", ".", *_WRITTEN)
    changes += _git(root, "ls-files", "--others", "--exclude-standard", "--", ".", *_WRITTEN)
    if not changes:
        return commit
    return f"{commit}-changed-{hashlib.sha256(changes.encode()).hexdigest()[:8]}"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout


class Kept:
    """The results of one tree, in a file of the cache folder."""

    def __init__(self, key: str, cache: Path | None = None) -> None:
        self.key = key
        self.folder = (cache or cache_root()) / "faults" / key
        self._file = self.folder / "cells.jsonl"

    def read(self) -> dict[tuple[str, str, str], Result]:
        """The newest result of each cell and place; a line that a crash left half is passed over."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return {result.key: result for result in decoded(lines)}

    def add(self, results: Iterable[Result]) -> None:
        """Note them, and of which commit and day they are, so that they are there after a crash."""
        self.folder.mkdir(parents=True, exist_ok=True)
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        with self._file.open("a") as file:
            for result in results:
                file.write(encoded(replace(result, commit=self.key, day=day)))


def encoded(result: Result) -> str:
    """A line of JSON."""
    return json.dumps(asdict(result)) + "\n"


def decoded(lines: Iterable[str]) -> list[Result]:
    """The results that these lines of JSON hold, in their order."""
    found = []
    for line in lines:
        try:
            found.append(Result(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def recorded(root: Path = ROOT) -> dict[tuple[str, str, str], Result]:
    """What the page is made of."""
    file = root / RECORD
    lines = file.read_text().splitlines() if file.exists() else []
    return {result.key: result for result in decoded(lines)}


def record(results: Iterable[Result], root: Path = ROOT) -> None:
    """Write what the page is made of; of an error, its first line."""
    short = [replace(result, error=result.error.partition("\n")[0]) for result in results]
    (root / RECORD).write_text("".join(encoded(result) for result in short))


def missing(
    cells: Iterable[tuple[str, str]], where: str, known: Mapping[tuple[str, str, str], Result], again: bool
) -> list[tuple[str, str]]:
    """Cells that are to be played: without a result there, and `again` also those that are red."""
    found = []
    for fault, phase in cells:
        result = known.get((fault, phase, where))
        if result is None or (again and not result.green):
            found.append((fault, phase))
    return found
