"""The rules of metrics' names find what breaks them."""

from __future__ import annotations

import pytest

from tests.support.exposition import faults

GOOD = """# HELP footplate_runs Runs by phase.
# TYPE footplate_runs gauge
footplate_runs{phase="Running"} 1.0
# HELP footplate_api_requests_total Requests.
# TYPE footplate_api_requests_total counter
footplate_api_requests_total{method="GET"} 0.0
# HELP footplate_api_build_info 1.
# TYPE footplate_api_build_info gauge
footplate_api_build_info{version="1"} 1.0
# HELP process_open_fds Of the process.
# TYPE process_open_fds gauge
process_open_fds 9.0
"""


def gauge(name: str, labels: str = "", value: str = "1.0") -> str:
    return f"# HELP {name} Something.\n# TYPE {name} gauge\n{name}{labels} {value}\n"


def test_what_is_right_has_no_fault() -> None:
    assert list(faults(GOOD, {})) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(gauge("foot_runs"), "should begin with footplate_", id="prefix"),
        pytest.param(gauge("footplate_wait_milliseconds"), "is not in a base unit", id="unit"),
        pytest.param(gauge("footplate_watch_age_seconds"), "is not in a base unit", id="age"),
        pytest.param(gauge("footplate_last_timestamp"), "should end in _timestamp_seconds", id="timestamp"),
        pytest.param(gauge("footplate_runs_total"), "ends in _total, and is a gauge", id="no-counter"),
        pytest.param(gauge("footplate_run"), "should end in what it counts", id="no-unit"),
        pytest.param(gauge("footplate_build_info", value="2.0"), "should be 1", id="info"),
        pytest.param(
            gauge("footplate_part_seconds", '{part="a"}'), "has its label part in its name", id="label"
        ),
        pytest.param(
            gauge("footplate_runs", '{instance="a"}'), "the label instance is Prometheus'", id="instance"
        ),
        pytest.param(
            "".join(
                ["# HELP footplate_runs Runs.\n# TYPE footplate_runs gauge\n"]
                + [f'footplate_runs{{uid="{number}"}} 1.0\n' for number in range(11)]
            ),
            "the label uid has 11 values, 10 are allowed",
            id="bound",
        ),
        pytest.param(GOOD + 'footplate_runs{phase="Running"} 2.0\n', "is there twice", id="twice"),
    ],
)
def test_what_breaks_a_rule_is_found(text: str, fault: str) -> None:
    assert any(fault in found for found in faults(text, {})), list(faults(text, {}))


def test_a_label_may_have_as_many_values_as_are_stated() -> None:
    lines = [f'footplate_runs{{uid="{number}"}} 1.0' for number in range(11)]
    text = "\n".join(["# HELP footplate_runs Runs.", "# TYPE footplate_runs gauge", *lines, ""])
    assert list(faults(text, {"uid": 11})) == []
