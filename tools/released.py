"""Writes tests/golden/released/: what the previous release leaves in a cluster, played by its own code.

`PYTHONPATH=dev python -m tools.released [COMMIT]`, after a release, with the commit that is the previous one
from then on.
The tests need none of this: what it wrote is committed, and a checkout without history will do for them.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

from cluster.machine.locks import made_once
from cluster.paths import cache_root

ROOT: Final = Path(__file__).resolve().parent.parent
GOLDEN: Final = ROOT / "tests" / "golden" / "released"
STORIES: Final = ROOT / "tests" / "support" / "released" / "stories.py"
PACKAGES: Final = ("contracts", "planning", "ledger", "operator", "api", "elastic", "trainer-image")


def previous() -> str:
    """The commit of the previous release."""
    return (GOLDEN / "COMMIT").read_text().strip()


def checkout(commit: str, cache: Path | None = None, repository: Path = ROOT) -> Path:
    """The tree of `commit`, in the cache; raises CalledProcessError where this clone has not got it."""

    def unpack(folder: Path) -> None:
        command = ["git", "archive", commit]
        archive = subprocess.run(command, cwd=repository, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")

    return made_once((cache or cache_root()) / "releases" / commit, unpack, f"unpacking {commit}")


def path_of(tree: Path) -> str:
    """PYTHONPATH with which a program is the one of `tree`."""
    return os.pathsep.join(map(str, (tree, tree / "dev", *(tree / name / "src" for name in PACKAGES))))


def main() -> int:
    """Exit status of the stories, which end with the first that is not at rest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "commit", nargs="?", default=previous(), help="40 hex digits; as before where left out"
    )
    commit = parser.parse_args().commit
    tree = checkout(commit)
    for old in GOLDEN.glob("*.json"):
        old.unlink()
    (GOLDEN / "COMMIT").write_text(f"{commit}\n")
    environment = {**os.environ, "PYTHONPATH": path_of(tree), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, STORIES, GOLDEN], cwd=tree, env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
