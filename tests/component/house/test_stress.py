"""`make stress` repeats a test, stops at the first failure, and leaves no busy process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FAILS_THE_THIRD_TIME = """
from pathlib import Path
def test_race():
    seen = Path("seen")
    before = seen.read_text() if seen.exists() else ""
    seen.write_text(before + "x")
    assert before != "xx", "lost the race"
"""


def stress(folder: Path, text: str, times: int) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(text)
    command = [sys.executable, "-m", "tools.stress", "test_suite.py", "--times", str(times)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_the_first_failure_ends_it_and_is_shown(tmp_path: Path) -> None:
    done = stress(tmp_path, FAILS_THE_THIRD_TIME, 5)
    assert done.returncode == 1
    assert "  3 of 5" in done.stdout and "  4 of 5" not in done.stdout
    assert "AssertionError: lost the race" in done.stdout


def test_a_test_that_passes_each_time(tmp_path: Path) -> None:
    done = stress(tmp_path, "def test_fine(): pass", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 passed in " in done.stdout
