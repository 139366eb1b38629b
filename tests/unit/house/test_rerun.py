"""When a suite that failed is worth a second look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tools.rerun import MANY, Outcomes, reason


def failed(test: str, when: str, text: str = "E   assert 0") -> pytest.TestReport:
    phase: Any = when  # xdist calls the phase in which a worker died "???"
    return pytest.TestReport(test, ("a.py", 1, test), {}, "failed", text, phase)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param([], False, id="none-failed"),
        pytest.param([failed("a", "call")], True, id="a-failure"),
        pytest.param([failed("a", "setup"), failed("b", "teardown")], True, id="errors-around-it"),
        pytest.param([failed("a", "call"), failed("b", "???")], False, id="a-worker-has-died"),
        pytest.param([failed(str(x), "call") for x in range(MANY)], True, id="a-few"),
        pytest.param([failed(str(x), "call") for x in range(MANY + 1)], False, id="too-many-for-chance"),
    ],
)
def test_worth_a_rerun(reports: Sequence[pytest.TestReport], expected: bool) -> None:
    outcomes = Outcomes()
    for report in reports:
        outcomes.pytest_runtest_logreport(report)
    assert outcomes.worth_a_rerun is expected


def test_what_cannot_be_collected_is_no_chance() -> None:
    outcomes = Outcomes()
    outcomes.pytest_runtest_logreport(failed("a", "call"))
    outcomes.pytest_collectreport(pytest.CollectReport("b.py", "failed", "no module", []))
    assert not outcomes.worth_a_rerun


def test_the_first_failure_of_a_test_is_its_reason() -> None:
    outcomes = Outcomes()
    outcomes.pytest_runtest_logreport(failed("a", "call", "E   assert 1 == 2"))
    outcomes.pytest_runtest_logreport(failed("a", "teardown", "E   a lock is held"))
    assert reason(outcomes.failures["a"]) == "    E   assert 1 == 2"
