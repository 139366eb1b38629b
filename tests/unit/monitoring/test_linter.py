"""Each rule of the linter passes a dashboard that keeps it, and tells of one that does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tools.monitoring.linter import RULES, faults

SOURCE = {"type": "prometheus", "uid": "$datasource"}
QUERY = 'sum(rate(footplate_api_requests_total{job=~"$job",instance=~"$instance"}[$__rate_interval]))'


def variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "refresh": 2,
    }


def dashboard() -> dict[str, Any]:
    panel = {
        "id": 1,
        "type": "timeseries",
        "title": "Requests",
        "description": "That the API answers.",
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": "reqps"}},
        "targets": [{"refId": "A", "expr": QUERY, "datasource": SOURCE}],
    }
    return {
        "editable": False,
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                variable("job", "label_values(footplate_api_build_info, job)"),
                variable("instance", 'label_values(footplate_api_build_info{job=~"$job"}, instance)'),
            ]
        },
        "panels": [{"type": "row", "title": "API", "panels": [copy.deepcopy(panel)]}, panel],
    }


def test_what_keeps_all_rules_has_no_fault() -> None:
    assert len(RULES) == 17
    assert faults(dashboard()) == []


Change = Callable[[dict[str, Any]], object]


def of_variable(place: int, **changes: Any) -> Change:
    return lambda board: board["templating"]["list"][place].update(changes)


def of_panel(**changes: Any) -> Change:
    """Of the one in the row."""
    return lambda board: board["panels"][0]["panels"][0].update(changes)


def asks(query: str, **more: Any) -> Change:
    return of_panel(targets=[{"expr": query, **more}])


def without(place: int) -> Change:
    return lambda board: board["templating"]["list"].pop(place)


GAUGE = 'footplate_runs{job=~"$job",instance=~"$instance"}'
COUNTER = 'a_total{job=~"$job",instance=~"$instance"}'


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        pytest.param("template-datasource-rule", without(0), id="no-datasource"),
        pytest.param("template-datasource-rule", of_variable(0, query="loki"), id="of-loki"),
        pytest.param("template-datasource-rule", of_variable(0, label="Source"), id="datasource-label"),
        pytest.param("template-job-rule", without(1), id="no-job"),
        pytest.param("template-job-rule", of_variable(1, label="Job"), id="job-label"),
        pytest.param("template-job-rule", of_variable(1, multi=False), id="job-single"),
        pytest.param("template-job-rule", of_variable(1, allValue=""), id="job-all"),
        pytest.param("template-job-rule", of_variable(1, datasource=None), id="job-source"),
        pytest.param("template-instance-rule", without(2), id="no-instance"),
        pytest.param("template-instance-rule", of_variable(2, type="custom"), id="instance-custom"),
        pytest.param(
            "template-label-promql-rule", of_variable(2, query="label_values(a{, b)"), id="no-promql"
        ),
        pytest.param("template-label-promql-rule", of_variable(2, query="metrics(a)"), id="no-label-values"),
        pytest.param("template-on-time-change-reload-rule", of_variable(1, refresh=1), id="on-load"),
        pytest.param("panel-datasource-rule", of_panel(datasource=None), id="panel-of-default"),
        pytest.param("panel-datasource-rule", asks(GAUGE, datasource={"uid": "mine"}), id="target-of-other"),
        pytest.param("panel-title-description-rule", of_panel(title=""), id="no-title"),
        pytest.param("panel-title-description-rule", of_panel(description=""), id="no-description"),
        pytest.param("panel-units-rule", of_panel(fieldConfig={}), id="no-unit"),
        pytest.param("panel-units-rule", of_panel(fieldConfig={"defaults": {"unit": "horses"}}), id="unit"),
        pytest.param("panel-no-targets-rule", of_panel(targets=[]), id="no-target"),
        pytest.param(
            "target-logql-rule", asks(GAUGE, datasource={"type": "loki", "uid": "$datasource"}), id="loki"
        ),
        pytest.param(
            "target-logql-auto-rule",
            asks(GAUGE, datasource={"type": "loki", "uid": "$datasource"}),
            id="auto",
        ),
        pytest.param("target-promql-rule", asks(f"sum({GAUGE}"), id="unclosed"),
        pytest.param("target-rate-interval-rule", asks(f"rate({COUNTER}[5m])"), id="rate-of-minutes"),
        pytest.param("target-rate-interval-rule", asks(f"increase({COUNTER}[1d])"), id="increase-of-a-day"),
        pytest.param("target-job-rule", asks('footplate_runs{instance=~"$instance"}'), id="any-job"),
        pytest.param(
            "target-job-rule",
            asks(f'{GAUGE} / footplate_runs{{job="a",instance=~"$instance"}}'),
            id="one-job",
        ),
        pytest.param("target-instance-rule", asks('footplate_runs{job=~"$job"}'), id="any-instance"),
        pytest.param("target-counter-agg-rule", asks(f"sum({COUNTER})"), id="bare-counter"),
        pytest.param("target-counter-agg-rule", asks(f"delta({COUNTER}[$__rate_interval])"), id="delta"),
        pytest.param("uneditable-dashboard-rule", lambda board: board.pop("editable"), id="editable"),
    ],
)
def test_what_breaks_a_rule_is_told_by_that_rule(rule: str, change: Change) -> None:
    board = dashboard()
    change(board)
    said = {fault.partition(":")[0] for fault in faults(board)}
    assert rule in said
    assert len(said) == (2 if "logql" in rule else 1), said


def test_a_value_mapping_takes_the_place_of_a_unit() -> None:
    board = dashboard()
    of_panel(fieldConfig={"defaults": {"mappings": [{"type": "value"}]}})(board)
    assert faults(board) == []
