"""PromQL as it is written, and what cannot be written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools.monitoring import promql
from tools.monitoring.expressions import (
    Expression,
    Like,
    Unlike,
    in_a_day,
    increase,
    label_values,
    last,
    level,
    quantile,
    rate,
)
from tools.monitoring.names import Counter, Foreign, Gauge, Histogram, Recorded

OBSERVABILITY = Path(__file__).resolve().parents[3] / "docs" / "observability.md"
CHOSEN = 'job=~"$job",instance=~"$instance"'
A, B = Expression("a"), Expression("b")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        pytest.param(level(Gauge.RUNS), f"footplate_runs{{{CHOSEN}}}", id="level"),
        pytest.param(
            level(Gauge.RUNS, phase="Queued"), f'footplate_runs{{{CHOSEN},phase="Queued"}}', id="is"
        ),
        pytest.param(
            level(Gauge.RUNS, phase=Like("A|B")), f'footplate_runs{{{CHOSEN},phase=~"A|B"}}', id="like"
        ),
        pytest.param(
            level(Gauge.RUNS, phase=Unlike("A")), f'footplate_runs{{{CHOSEN},phase!~"A"}}', id="not"
        ),
        pytest.param(last(Foreign.UP, "1d"), f"last_over_time(up{{{CHOSEN}}}[1d])", id="last"),
        pytest.param(
            rate(Counter.API_ROWS),
            f"rate(footplate_api_ingested_rows_total{{{CHOSEN}}}[$__rate_interval])",
            id="rate",
        ),
        pytest.param(
            increase(Counter.API_ROWS),
            f"increase(footplate_api_ingested_rows_total{{{CHOSEN}}}[$__rate_interval])",
            id="increase",
        ),
        pytest.param(
            quantile(0.5, Histogram.OPERATOR_QUEUE_WAIT, "part", cause="Hang"),
            "histogram_quantile(0.5, sum by (le, part)"
            " (rate(footplate_operator_workqueue_queue_duration_seconds_bucket"
            f'{{{CHOSEN},cause="Hang"}}[$__rate_interval])))',
            id="quantile",
        ),
        pytest.param(A.sum(), "sum(a)", id="sum"),
        pytest.param(A.max("x", "y"), "max by (x, y) (a)", id="max-by"),
        pytest.param(A.top(3), "topk(3, a)", id="top"),
        pytest.param(A.age(), "time() - a", id="age"),
        pytest.param(
            A.relabelled("pod", "exported_pod"), 'label_replace(a, "pod", "$1", "exported_pod", "(.+)")'
        ),
        pytest.param((A + B) * 2, "(a + b) * 2", id="sum-in-product"),
        pytest.param(A * 2 + B / 3, "a * 2 + b / 3", id="products-in-sum"),
        pytest.param(A - (A - B), "a - (a - b)", id="right-of-a-difference"),
        pytest.param((A - B).above(1.5), "a - b > 1.5", id="comparison"),
        pytest.param(A.above(1).otherwise(B), "a > 1 or b", id="or"),
        pytest.param(A.otherwise(B).where(B, "x"), "(a or b) and on (x) b", id="or-in-and"),
        pytest.param(A.where(B), "a and on () b", id="on-nothing"),
        pytest.param(A.joined(B, ("x",), ("y",)), "a * on (x) group_left (y) b", id="join"),
        pytest.param(A.equal(0), "a == 0", id="equal"),
        pytest.param(A.other_than(0.25), "a != 0.25", id="other-than"),
    ],
)
def test_how_it_is_written(expression: Expression, text: str) -> None:
    assert str(expression) == text
    assert promql.selectors(text) is not None


def test_what_was_added_in_a_day_does_not_count_the_month_before() -> None:
    recorded = f"namespace_profile:footplate_cost_dollars:last{{{CHOSEN}}}"
    assert str(in_a_day(Recorded.COST, "profile")) == (
        f"clamp_min(sum by (profile) ({recorded}) - sum by (profile) ({recorded} offset 1d), 0)"
        f" and on () day_of_month() > 1 or sum by (profile) ({recorded})"
    )


@pytest.mark.parametrize("ask", [level, lambda name: last(name, "1d")])
def test_a_counter_itself_is_refused(ask) -> None:
    with pytest.raises(ValueError, match="footplate_run_restarts_total is a counter: ask for its rate"):
        ask(Counter.RUN_RESTARTS)


def test_what_a_variable_asks_is_read_by_the_linter() -> None:
    [selector] = promql.of_variable(label_values(Gauge.RUN_STATUS, "name", namespace="$namespace"))
    assert selector.name == Gauge.RUN_STATUS
    assert ("namespace", "=", "$namespace") in selector.matchers


def test_counters_and_only_they_end_in_total() -> None:
    assert all(name.endswith("_total") for name in Counter)
    assert not [name for kind in (Gauge, Histogram, Recorded, Foreign) for name in kind if "_total" in name]


def test_metrics_are_those_of_the_documentation() -> None:
    """Each stands in the first column of one of its tables."""
    firsts = [
        line.split("|")[1]
        for line in OBSERVABILITY.read_text().splitlines()
        if line.startswith("| `footplate_")
    ]
    documented = {name for first in firsts for name in re.findall(r"`(footplate_\w+)`", first)}
    assert documented == {*Gauge, *Counter, *Histogram}
