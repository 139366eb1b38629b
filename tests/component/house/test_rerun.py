"""A test that fails once and passes alone leaves CI green and its name behind; nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.rerun import REPORT

ROOT = Path(__file__).resolve().parents[3]
BARE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # to import them takes a second in each of these processes
SPREAD = ("-p", "xdist", "--numprocesses")
FINE = "def test_fine(): pass\n"
FAILS_ONCE = """
from pathlib import Path
def test_race():
    seen = Path("seen")
    late = not seen.exists()
    seen.touch()
    assert not late, "lost the race"
"""
FAILS = "def test_broken(): assert 1 == 2\n"
CRASHES_ONCE = FAILS_ONCE.replace('assert not late, "lost the race"', "import os; late and os._exit(9)")


def rerun(folder: Path, text: str, *options: str) -> tuple[int, str, str]:
    """Exit status, output and report of a suite of one file, beside a conftest as all of ours are."""
    (folder / "suite").mkdir()
    (folder / "suite" / "conftest.py").touch()
    (folder / "suite" / "test_suite.py").write_text(text)
    report = folder / "report"
    environ = {**os.environ, **BARE, "PYTHONPATH": str(ROOT), REPORT: str(report), "PY_COLORS": "0"}
    command = [sys.executable, "-m", "tools.rerun", "-q", "suite", *options]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, report.read_text() if report.exists() else ""


def test_a_test_that_passes_alone_is_flaky(tmp_path: Path) -> None:
    status, output, report = rerun(tmp_path, FINE + FAILS_ONCE, *SPREAD, "2")
    assert status == 0, output
    head, *reason = report.splitlines()
    assert head == "FLAKY: suite/test_suite.py::test_race"
    assert "AssertionError: lost the race" in "".join(reason)
    assert output.endswith(report)
    assert "2 passed, 1 rerun in " in output.removesuffix(report).splitlines()[-1]


def test_one_that_fails_again_keeps_it_red_and_the_other_is_still_named(tmp_path: Path) -> None:
    status, output, report = rerun(tmp_path, FAILS_ONCE + FAILS)
    assert status == 1
    assert report.startswith("FLAKY: suite/test_suite.py::test_race\n") and "test_broken" not in report
    assert output.endswith(report)


def test_a_crash_is_no_chance(tmp_path: Path) -> None:
    assert rerun(tmp_path, FINE + CRASHES_ONCE, *SPREAD, "1")[::2] == (1, "")
