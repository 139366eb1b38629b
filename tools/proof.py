"""Runs a command and records the outcome in docs/seen/proofs.jsonl: `python -m tools.proof VERB COMMAND…`.

Tests that take minutes on a cluster run by hand. A line says of which commit, on which machine, how long and
with what result; output and exit status are the command's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FILE: Final = "docs/seen/proofs.jsonl"
# Written by the verbs themselves: no change of what they prove.
_WRITTEN: Final = ("docs/seen", "docs/fault-matrix.md", "docs/fault-matrix.jsonl")
_LONGEST: Final = 200  # characters of the last line


@dataclass(frozen=True)
class Proof:
    """A line of the file."""

    verb: str
    command: str
    time: str  # at which it began, in UTC
    commit: str
    changed: bool  # since that commit
    cores: int
    memory: float  # GiB of the machine
    seconds: float
    result: str  # passed, or failed
    status: int
    said: str  # the last line of the output


def commit(root: Path) -> tuple[str, bool]:
    """Return the commit that is checked out, and whether files were changed since; "" without git."""
    try:
        changes = _git(root, "status", "--porcelain", "--", ".", *(f":!{path}" for path in _WRITTEN))
        return _git(root, "rev-parse", "--short=10", "HEAD"), bool(changes)
    except (OSError, subprocess.CalledProcessError):
        return "", False


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def memory() -> float:
    """GiB of memory of this machine."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def passed_through(command: Sequence[str]) -> tuple[int, str]:
    """Run the command; its exit status, and the last line that it printed."""
    last = ""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                sys.stdout.write(line)
                sys.stdout.flush()
                last = line.strip() or last
        except KeyboardInterrupt:  # sent to the command, too, which ends by itself
            process.wait()
            return 130, "interrupted"
    code = process.returncode
    return (128 - code if code < 0 else code), last[:_LONGEST]


def record(proof: Proof, root: Path) -> None:
    """Append a line to the file."""
    file = root / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(proof)) + "\n")


def main(words: Sequence[str], root: Path = ROOT) -> int:
    """Return the exit status of the command."""
    if len(words) < 2:
        print("usage: python -m tools.proof VERB COMMAND…", file=sys.stderr)
        return 2
    verb, *command = words
    (of, changed), begun, began = commit(root), time.monotonic(), datetime.now(UTC)
    status, said = passed_through(command)
    proof = Proof(
        verb,
        " ".join(command),
        f"{began:%Y-%m-%dT%H:%M:%SZ}",
        of,
        changed,
        os.cpu_count() or 1,
        memory(),
        round(time.monotonic() - begun, 1),
        "failed" if status else "passed",
        status,
        said,
    )
    record(proof, root)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
