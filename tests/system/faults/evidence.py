"""Freshness of results: the product that a cell was played on, and what is right of it by today's table.

A cell records the git tree of each product folder. A commit would say less: it may never reach the history,
and another one may change documentation alone.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from demo.kube import ROOT
from tests.support.matrix import FAULTS, Phase, bound_on_pods
from tests.system.faults.results import PODS, Key, Result

PRODUCT: Final = (
    "api",
    "charts",
    "contracts",
    "crds",
    "elastic",
    "ledger",
    "operator",
    "planning",
    "trainer-image",
)
_DIGITS: Final = 10


def product_trees(root: Path = ROOT, folders: Sequence[str] = PRODUCT) -> dict[str, str]:
    """Return the git tree of each folder as it is in `root`, with changes that are not committed."""
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "GIT_INDEX_FILE": str(Path(temporary) / "index")}

        def git(*words: str) -> str:
            command = ["git", *words]
            done = subprocess.run(
                command, cwd=root, env=environment, check=True, capture_output=True, text=True
            )
            return done.stdout.strip()

        git("read-tree", "HEAD")
        git("add", "--all", "--", *folders)
        return {folder: git("write-tree", f"--prefix={folder}/")[:_DIGITS] for folder in folders}


def changed_since(result: Result, trees: Mapping[str, str]) -> list[str]:
    """Return the folders that are other ones than those that a result is of."""
    if not result.trees:
        return ["the product"]  # a release wrote it that recorded none
    return sorted(folder for folder, tree in trees.items() if result.trees.get(folder) != tree)


def rejudged(result: Result) -> Result:
    """Return a recorded result by today's bounds: what took too long, or counted another cause, is red."""
    fault = FAULTS.get(result.fault)
    if fault is None or not result.green:
        return result
    bound, allowed = bound_on_pods(fault), {cause.value for cause in fault.causes}
    if result.where == PODS and (result.seconds or 0.0) > bound:
        return replace(result, error=f"back in work after {result.seconds} s, where {bound:.0f} is right")
    if result.where == PODS and (result.detected or 0.0) > fault.detected:
        late = f"detected after {result.detected} s, where {fault.detected:.0f} is right"
        return replace(result, error=late)
    if not allowed.issuperset(result.causes):
        return replace(result, error=f"{result.causes} counted, where {sorted(allowed)} may be")
    return result


def unproven(
    cells: Sequence[tuple[str, Phase]], known: Mapping[Key, Result], trees: Mapping[str, str]
) -> list[str]:
    """Return a line for each cell without a green result on pods of these trees."""
    found = []
    for name, phase in cells:
        result = known.get((name, phase.value, PODS))
        if result is None:
            found.append(f"{name}, {phase}: not played")
        elif changed := changed_since(result, trees):
            found.append(f"{name}, {phase}: stale, as {', '.join(changed)} changed since")
        elif not rejudged(result).green:
            found.append(f"{name}, {phase}: red: {rejudged(result).error}")
    return found
