"""What recorded series are, by promtool: each example is reckoned by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest
from tools.monitoring.rules.recording import GROUPS

from tests.support.chart import CHART
from tests.support.prometheus import complaints, value_of

RULES = CHART / "rules" / "recording.yaml"
# What a scrape adds: of it a recorded series keeps job and instance alone.
API = 'job="footplate-api",instance="a",pod="footplate-api-0"'
OTHER = 'job="footplate-api",instance="b",pod="footplate-api-1"'
OPERATOR = 'job="footplate-operator",instance="c",pod="footplate-operator-0"'
RUN = 'namespace="team-a",name="tiny"'
OF_RUN = '{instance="a",job="footplate-api",name="tiny",namespace="team-a"}'
OF_NOBODY = '{instance="a",job="footplate-api",profile="h100"}'
IDLE_MONTH = f'footplate_month_to_date_idle_dollars{{{API},namespace="footplate-system",profile="h100"}}'
IDLE = f'footplate_idle_dollars_total{{{API},namespace="footplate-system",profile="h100"}}'


def of(namespace: str) -> str:
    """The labels of what is recorded of a namespace's share in h100."""
    return f'{{instance="a",job="footplate-api",namespace="{namespace}",profile="h100"}}'


def counted(what: str, namespace: str) -> str:
    """A counter of a namespace's share."""
    return f'footplate_{what}_total{{{API},namespace="{namespace}",profile="h100"}}'


def month(what: str, namespace: str) -> str:
    """A gauge of the month."""
    return f'footplate_month_to_date_{what}{{{API},namespace="{namespace}",profile="h100"}}'


def spent(account: str) -> str:
    """A counter of the operator."""
    return (
        f'footplate_operator_run_seconds_total{{job="footplate-operator",instance="c",account="{account}"}}'
    )


class Example(NamedTuple):
    """What a recorded series is at some minute, by its labels."""

    recorded: str
    series: Mapping[str, str]
    minute: int
    expected: Mapping[str, float]


IDLE_RATE = "namespace_profile:footplate_idle_dollars:rate5m"
GOODPUT = "footplate_operator:goodput:ratio_rate1h"
EXAMPLES = {
    "cost-of-a-run": Example(
        "run:footplate_cost_dollars:last",
        {f"footplate_run_cost_dollars_total{{{API},{RUN}}}": "0+0.5x10"},
        10,
        {OF_RUN: 5},
    ),
    "energy-by-whatever-method": Example(
        "run:footplate_energy_joules:last",
        {
            f'footplate_run_energy_joules_total{{{API},{RUN},method="counter"}}': "0+100x10",
            f'footplate_run_energy_joules_total{{{API},{RUN},method="power"}}': "7x10",
            f'footplate_run_energy_joules_total{{{API},{RUN},method="rated"}}': "0x10",
        },
        10,
        {OF_RUN: 1007},
    ),
    "carbon": Example(
        "run:footplate_carbon_grams:last",
        {f"footplate_run_carbon_grams_total{{{API},{RUN}}}": "0+3x10"},
        2,
        {OF_RUN: 6},
    ),
    "a-run-that-is-shown-no-more": Example(
        "run:footplate_restarts:last",
        {f"footplate_run_restarts_total{{{API},{RUN}}}": "2 2 stale"},
        2,
        {},
    ),
    "another-replica-shows-it": Example(
        "run:footplate_restarts:last",
        {
            f"footplate_run_restarts_total{{{API},{RUN}}}": "2 2 stale",
            f"footplate_run_restarts_total{{{OTHER},{RUN}}}": "_ _ 3",
        },
        2,
        {OF_RUN.replace('instance="a"', 'instance="b"'): 3},
    ),
    "a-new-month-begins": Example(
        "namespace_profile:footplate_cost_dollars:last",
        {month("cost_dollars", "team-a"): "100 110 1", month("cost_dollars", "team-b"): "7x10"},
        2,
        {of("team-a"): 1, of("team-b"): 7},
    ),
    "energy-of-a-namespace": Example(
        "namespace_profile:footplate_energy_joules:last",
        {month("energy_joules", "team-a"): "0+5x3"},
        3,
        {of("team-a"): 15},
    ),
    "carbon-of-a-namespace": Example(
        "namespace_profile:footplate_carbon_grams:last",
        {month("carbon_grams", "team-a"): "0+5x3"},
        1,
        {of("team-a"): 5},
    ),
    "idle-is-of-no-namespace": Example(
        "profile:footplate_idle_dollars:last", {IDLE_MONTH: "0+60x10"}, 10, {OF_NOBODY: 600}
    ),
    # A dollar a second is idle; of three that are paid a second team-a pays two.
    "idle-is-shared-as-they-pay": Example(
        IDLE_RATE,
        {
            IDLE: "0+60x10",
            counted("cost_dollars", "team-a"): "0+120x10",
            counted("cost_dollars", "team-b"): "0+60x10",
            counted("cost_dollars", "team-c"): "9x10",
        },
        10,
        {of("team-a"): 2 / 3, of("team-b"): 1 / 3, of("team-c"): 0},
    ),
    "nobody-pays-any-more": Example(
        IDLE_RATE, {IDLE: "0+60x10", counted("cost_dollars", "team-a"): "120x10"}, 10, {OF_NOBODY: 1}
    ),
    "nobody-has-ever-paid": Example(IDLE_RATE, {IDLE: "0+60x10"}, 10, {OF_NOBODY: 1}),
    "nothing-is-idle": Example(
        IDLE_RATE,
        {IDLE: "60x10", counted("cost_dollars", "team-a"): "0+60x10"},
        10,
        {of("team-a"): 0},
    ),
    # Of five minutes, that in which another replica began to export is not seen: its counters began with it.
    "no-rate-falls-when-another-replica-exports": Example(
        IDLE_RATE,
        {IDLE: "1000 1060 1120 0+60x10", counted("cost_dollars", "team-a"): "1000 1060 1120 0+60x10"},
        6,
        {of("team-a"): 0.8},
    ),
    "goodput": Example(
        GOODPUT,
        {
            spent("productive"): "0+60x60",
            spent("restarting"): "0+30x60",
            spent("suspended"): "0+30x60",
            spent("queued"): "0+900x60",
        },
        60,
        {'{instance="c",job="footplate-operator"}': 0.5},
    ),
    "no-goodput-where-nothing-runs": Example(
        GOODPUT, {spent("productive"): "5x60", spent("queued"): "0+900x60"}, 60, {}
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What promtool finds wrong, by example."""
    tests = {
        name: value_of(
            example.recorded,
            example.minute,
            example.series,
            {example.recorded + labels: value for labels, value in example.expected.items()},
        )
        for name, example in EXAMPLES.items()
    }
    return complaints(tmp_path_factory.mktemp("promtool"), {RULES: tests})


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_recorded_series(example: str, said: Mapping[str, str]) -> None:
    assert said.get(example, "") == ""


def test_each_has_an_example() -> None:
    assert {example.recorded for example in EXAMPLES.values()} == {
        known.name for group in GROUPS.values() for known in group
    }
