"""Results of cells, kept by the product that they were played on, so that a second call goes on.

One line of JSON for each cell and place (simulated, or on pods), the newest of which counts.

The page's results are recorded beside it, as such lines: so a cell that is played again is written to the
page without all others, each with the trees of the product and the day on which it was played.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from cluster.paths import cache_root
from demo.kube import ROOT

SIMULATED: Final = "simulated"
PODS: Final = "pods"
HISTORIES: Final = 5000
RANDOM: Final = (f"{HISTORIES} random histories", "any", SIMULATED)  # the key of their result
PAGE: Final = "docs/fault-matrix.md"
RECORD: Final = "docs/fault-matrix.jsonl"
Key: TypeAlias = tuple[str, str, str]  # fault, phase, place


@dataclass
class Result:
    """What came of a cell, simulated or on pods."""

    fault: str
    phase: str
    where: str = PODS
    seconds: float | None = None  # from the fault until the run was where it should be
    detected: float | None = None  # from the fault until the status counted the failure
    causes: list[str] = field(default_factory=list)  # counted since the fault
    proof: str = ""  # of the phase
    error: str = ""  # why it is red; empty: green
    trees: dict[str, str] = field(default_factory=dict)  # product folder -> git tree that it was played on
    day: str = ""  # when

    @property
    def green(self) -> bool:
        """Whether all was right."""
        return not self.error

    @property
    def key(self) -> Key:
        """Of which cell it is, and where it was played."""
        return self.fault, self.phase, self.where


class Kept:
    """The results of one product, by the trees of its folders, in a file of the cache folder."""

    def __init__(self, trees: Mapping[str, str], cache: Path | None = None) -> None:
        self.trees = dict(trees)
        key = hashlib.sha256(json.dumps(self.trees, sort_keys=True).encode()).hexdigest()[:10]
        self.folder = (cache or cache_root()) / "faults" / key
        self._file = self.folder / "cells.jsonl"

    def read(self) -> dict[Key, Result]:
        """The newest result of each cell and place; a line that a crash left half is passed over."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return {result.key: result for result in decoded(lines)}

    def add(self, results: Iterable[Result]) -> None:
        """Note them with their trees and their day, so that they are there after a crash."""
        self.folder.mkdir(parents=True, exist_ok=True)
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        with self._file.open("a") as file:
            for result in results:
                file.write(encoded(replace(result, trees=self.trees, day=day)))


def encoded(result: Result) -> str:
    """A line of JSON."""
    return json.dumps(asdict(result)) + "\n"


def decoded(lines: Iterable[str]) -> list[Result]:
    """The results that these lines of JSON hold, in their order, without what this release does not know."""
    found = []
    for line in lines:
        try:
            members = json.loads(line)
            found.append(Result(**{name: members[name] for name in _MEMBERS if name in members}))
        except (ValueError, TypeError):
            continue
    return found


_MEMBERS: Final = tuple(member.name for member in fields(Result))


def recorded(root: Path = ROOT) -> dict[Key, Result]:
    """What the page is made of."""
    file = root / RECORD
    lines = file.read_text().splitlines() if file.exists() else []
    return {result.key: result for result in decoded(lines)}


def record(results: Iterable[Result], root: Path = ROOT) -> None:
    """Write what the page is made of; of an error, its first line."""
    short = [replace(result, error=result.error.partition("\n")[0]) for result in results]
    (root / RECORD).write_text("".join(encoded(result) for result in short))


def missing(
    cells: Iterable[tuple[str, str]], where: str, known: Mapping[Key, Result], again: bool
) -> list[tuple[str, str]]:
    """Cells that are to be played: without a result there, and `again` also those that are red."""
    found = []
    for fault, phase in cells:
        result = known.get((fault, phase, where))
        if result is None or (again and not result.green):
            found.append((fault, phase))
    return found
