"""Runs pytest, and each test that failed once more, alone: what CI does with tests that need time.

    python -m tools.rerun tests/component -q --numprocesses 2

Thousands of tests on a busy machine fail by chance now and then, and a failure that says nothing of the
change in hand teaches everybody to look away. A test that passes when it has the machine to itself leaves
the suite green, and a `FLAKY:` line at the end: its race is what is mended next. One that fails again
leaves the suite red, and so do a crash of the interpreter, an error while tests are collected, and many
failures at once, none of which is chance.

pytest-rerunfailures repeats a test at once, in the process and under the load in which it failed; here the
second run is a process of its own after the suite has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MANY = 5  # failures that are no chance any more
RERUN_SECONDS = 900.0  # several times what the longest test takes
REASON_LINES = 6
REPORT = "FLAKY_REPORT"  # environment: a file that flaky tests are added to, to be shown at the end of CI


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Outcomes:
    """A plugin that notes how the tests of one session ended."""

    passed: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # test id -> text of its first failure
    beyond_chance: bool = False  # a crash, or an error while tests were collected

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.passed and report.when == "call"
        if report.failed:
            self.failures.setdefault(report.nodeid, report.longreprtext)
            # A worker that has died tells of no phase.
            self.beyond_chance |= report.when not in ("setup", "call", "teardown")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.beyond_chance |= report.failed

    @property
    def worth_a_rerun(self) -> bool:
        return not self.beyond_chance and 0 < len(self.failures) <= MANY


def reason(failure: str) -> str:
    """The last lines of a failure, where pytest says what was compared and where."""
    lines = [line.rstrip() for line in failure.splitlines() if line.strip()]
    return "\n".join(f"    {line[:200]}" for line in lines[-REASON_LINES:])


def passes_alone(test: str) -> bool:
    """Whether a test passes in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", test]
    try:
        return subprocess.run(command, timeout=RERUN_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def report(flaky: Sequence[str]) -> None:
    """Prints what is flaky, and adds it to the report of the whole CI run if there is one."""
    text = "\n".join(flaky)
    print(text, flush=True)
    if os.environ.get(REPORT):
        with Path(os.environ[REPORT]).open("a") as file:
            file.write(f"{text}\n")


def run(arguments: Sequence[str], rerun: Callable[[str], bool] = passes_alone) -> int:
    """Runs pytest with `arguments`; returns its exit status, or 0 if each failed test passed at last."""
    started, outcomes = time.monotonic(), Outcomes()
    status = int(pytest.main(list(arguments), plugins=[outcomes]))
    if status != pytest.ExitCode.TESTS_FAILED or not outcomes.worth_a_rerun:
        return status
    again = {test: rerun(test) for test in outcomes.failures}
    flaky = [f"FLAKY: {test}\n{reason(outcomes.failures[test])}" for test, passed in again.items() if passed]
    if len(flaky) == len(again):
        status = 0
        passed = outcomes.passed + len(again)
        print(f"{passed} passed, {len(again)} rerun in {time.monotonic() - started:.2f}s")
    if flaky:
        report(flaky)
    return status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
