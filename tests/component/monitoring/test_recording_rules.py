"""What recorded series are, by promtool: each example is reckoned by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.chart import CHART
from tests.support.promtool import HOUR, MINUTE, complaints, inputs

RULES = CHART / "rules" / "recording.yaml"
# What a scrape adds: of it a recorded series keeps job and instance alone.
API = 'job="footplate-api",instance="a",pod="footplate-api-0"'
OTHER = 'job="footplate-api",instance="b",pod="footplate-api-1"'
RUN = f'{API},namespace="team-a",name="tiny"'
OF_RUN = '{instance="a",job="footplate-api",name="tiny",namespace="team-a"}'
OPERATOR = 'job="footplate-operator",instance="c"'


def idle(**dollars: float) -> dict[str, float]:
    """Idle dollars a second by namespace, of the profile h100; `nobody` is none."""
    return {
        ('{instance="a",job="footplate-api",profile="h100"}' if name == "nobody" else of_share(name)): value
        for name, value in dollars.items()
    }


def of_share(namespace: str) -> str:
    return f'{{instance="a",job="footplate-api",namespace="{namespace}",profile="h100"}}'


def cost(namespace: str) -> str:
    return f'footplate_cost_dollars_total{{{API},namespace="{namespace}",profile="h100"}}'


IDLE = f'footplate_idle_dollars_total{{{API},namespace="footplate-system",profile="h100"}}'


@pytest.mark.parametrize(
    ("recorded", "series", "seconds", "expected"),
    [
        pytest.param(
            "run:footplate_cost_dollars:last",
            {f"footplate_run_cost_dollars_total{{{RUN}}}": "0+0.5x10"},
            10 * MINUTE,
            {OF_RUN: 5},
            id="a-run-has-cost",
        ),
        pytest.param(
            "run:footplate_energy_joules:last",
            {
                f'footplate_run_energy_joules_total{{{RUN},method="counter"}}': "0+100x10",
                f'footplate_run_energy_joules_total{{{RUN},method="power"}}': "7x10",
                f'footplate_run_energy_joules_total{{{RUN},method="rated"}}': "0x10",
            },
            10 * MINUTE,
            {OF_RUN: 1007},
            id="energy-by-whatever-method",
        ),
        pytest.param(
            "run:footplate_carbon_grams:last",
            {f"footplate_run_carbon_grams_total{{{RUN}}}": "0+3x10"},
            2 * MINUTE,
            {OF_RUN: 6},
            id="carbon",
        ),
        pytest.param(
            "run:footplate_restarts:last",
            {f"footplate_run_restarts_total{{{RUN}}}": "2 2 stale"},
            2 * MINUTE,
            {},
            id="a-run-that-is-shown-no-more",
        ),
        pytest.param(
            "run:footplate_restarts:last",
            {
                f"footplate_run_restarts_total{{{RUN}}}": "2 2 stale",
                f'footplate_run_restarts_total{{{OTHER},namespace="team-a",name="tiny"}}': "_ _ 3",
            },
            2 * MINUTE,
            {OF_RUN.replace('"a"', '"b"', 1): 3},
            id="another-replica-shows-it",
        ),
        pytest.param(
            "namespace_profile:footplate_cost_dollars:last",
            {cost("team-a"): "100 110 1", cost("team-b"): "7x10"},
            2 * MINUTE,
            {of_share("team-a"): 1, of_share("team-b"): 7},
            id="a-new-month-begins",
        ),
        pytest.param(
            "namespace_profile:footplate_energy_joules:last",
            {f'footplate_energy_joules_total{{{API},namespace="team-a",profile="h100"}}': "0+5x3"},
            3 * MINUTE,
            {of_share("team-a"): 15},
            id="energy-of-a-namespace",
        ),
        pytest.param(
            "namespace_profile:footplate_carbon_grams:last",
            {f'footplate_carbon_grams_total{{{API},namespace="team-a",profile="h100"}}': "0+5x3"},
            MINUTE,
            {of_share("team-a"): 5},
            id="carbon-of-a-namespace",
        ),
        pytest.param(
            "profile:footplate_idle_dollars:last",
            {IDLE: "0+60x10"},
            10 * MINUTE,
            idle(nobody=600),
            id="idle-is-of-no-namespace",
        ),
        # A dollar a second idle; of three that are paid a second team-a pays two.
        pytest.param(
            "namespace_profile:footplate_idle_dollars:rate5m",
            {IDLE: "0+60x10", cost("team-a"): "0+120x10", cost("team-b"): "0+60x10", cost("team-c"): "9x10"},
            10 * MINUTE,
            idle(**{"team-a": 2 / 3, "team-b": 1 / 3, "team-c": 0}),
            id="idle-is-shared-as-they-pay",
        ),
        pytest.param(
            "namespace_profile:footplate_idle_dollars:rate5m",
            {IDLE: "0+60x10", cost("team-a"): "120x10"},
            10 * MINUTE,
            idle(nobody=1),
            id="nobody-pays-any-more",
        ),
        pytest.param(
            "namespace_profile:footplate_idle_dollars:rate5m",
            {IDLE: "0+60x10"},
            10 * MINUTE,
            idle(nobody=1),
            id="nobody-has-ever-paid",
        ),
        pytest.param(
            "namespace_profile:footplate_idle_dollars:rate5m",
            {IDLE: "1000 1060 1120 0+60x10", cost("team-a"): "1000 1060 1120 0+60x10"},
            6 * MINUTE,
            idle(**{"team-a": 0.8}),  # of five minutes, the first of the month is not seen
            id="no-rate-falls-when-a-month-begins",
        ),
        # A half of what counts; what is queued does not.
        pytest.param(
            "footplate_operator:goodput:ratio_rate1h",
            {
                f'footplate_operator_run_seconds_total{{{OPERATOR},account="productive"}}': "0+60x60",
                f'footplate_operator_run_seconds_total{{{OPERATOR},account="restarting"}}': "0+30x60",
                f'footplate_operator_run_seconds_total{{{OPERATOR},account="suspended"}}': "0+30x60",
                f'footplate_operator_run_seconds_total{{{OPERATOR},account="queued"}}': "0+900x60",
            },
            HOUR,
            {'{instance="c",job="footplate-operator"}': 0.5},
            id="goodput",
        ),
        pytest.param(
            "footplate_operator:goodput:ratio_rate1h",
            {
                f'footplate_operator_run_seconds_total{{{OPERATOR},account="productive"}}': "5x60",
                f'footplate_operator_run_seconds_total{{{OPERATOR},account="queued"}}': "0+900x60",
            },
            HOUR,
            {},
            id="no-goodput-where-nothing-runs",
        ),
    ],
)
def test_a_recorded_series(
    recorded: str, series: Mapping[str, str], seconds: int, expected: Mapping[str, float], tmp_path: Path
) -> None:
    samples = [{"labels": recorded + labels, "value": value} for labels, value in expected.items()]
    asked = {"expr": recorded, "eval_time": f"{seconds}s", "exp_samples": samples}
    test = {"interval": "1m", "input_series": inputs(series), "promql_expr_test": [asked]}
    assert complaints(tmp_path, [RULES], [test]) == ""
