"""Every series of ours in a rule is of the job of its own release."""

from __future__ import annotations

import pytest
from tools.monitoring.rules.scope import scoped

API, OPERATOR = 'job="footplate-api"', 'job="footplate-operator"'


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("footplate_runs", f"footplate_runs{{{API}}}", id="bare"),
        pytest.param('footplate_runs{a="b"}', f'footplate_runs{{{API},a="b"}}', id="with-labels"),
        pytest.param(
            "rate(footplate_api_requests_total[5m])",
            f"rate(footplate_api_requests_total{{{API}}}[5m])",
            id="range",
        ),
        pytest.param(
            "footplate_operator_leader_election_master_status",
            f"footplate_operator_leader_election_master_status{{{OPERATOR}}}",
            id="of-the-operator",
        ),
        pytest.param(
            "run:footplate_restarts:last > footplate_operator:goodput:ratio_rate1h",
            f"run:footplate_restarts:last{{{API}}} > footplate_operator:goodput:ratio_rate1h{{{OPERATOR}}}",
            id="recorded",
        ),
        pytest.param('up{job="footplate-api"} == 0', 'up{job="footplate-api"} == 0', id="not-ours"),
    ],
)
def test_scoped(expression: str, expected: str) -> None:
    assert scoped(expression) == expected
