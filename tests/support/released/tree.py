"""The code of the previous release, beside this one's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools import released


def previous_tree() -> Path:
    """Its checkout; the test is skipped where this clone has no history."""
    try:
        return released.checkout(released.previous())
    except subprocess.CalledProcessError:
        pytest.skip(f"this clone has no history: commit {released.previous()} is not there")


def said_by(tree: Path, program: str, text: str = "") -> str:
    """What `program`, some lines of Python, prints there when given `text`; raises CalledProcessError."""
    environment = {**os.environ, "PYTHONPATH": released.path_of(tree), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=environment, input=text, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout
