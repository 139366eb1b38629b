"""What is asked of Prometheus when a dashboard is looked at, and rules are evaluated."""

from __future__ import annotations

from typing import Any

from tools.monitoring import questions
from tools.monitoring.questions import Question

DASHBOARD: dict[str, Any] = {
    "title": "Run",
    "templating": {
        "list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            {
                "name": "job",
                "type": "query",
                "query": {"query": 'label_values(up{job!="",path="a\\"b"}, job)', "refId": "job"},
                "allValue": ".+",
            },
            {"name": "run", "type": "query", "query": 'label_values(footplate_run_step{job=~"$job"}, name)'},
        ]
    },
    "panels": [
        {
            "type": "row",
            "title": "Now",
            "panels": [{"type": "stat", "title": "Step", "targets": [{"expr": 'step{name="${run}"}'}]}],
        },
        {
            "type": "timeseries",
            "title": "Rates",
            "targets": [
                {"refId": "A", "expr": 'rate(a_total{job=~"$job"}[$__rate_interval])'},
                {"refId": "B", "expr": 'label_replace(b, "x", "$1", "y", "(.+)")'},
            ],
        },
        {"type": "text", "title": "Nothing is asked"},
    ],
}


def test_panels_and_variables_are_asked_with_what_was_chosen() -> None:
    assert list(questions.of_dashboard(DASHBOARD, {"run": "gpt"}, "30s")) == [
        Question("Run / $job", 'up{job!="",path="a\\"b"}'),
        Question("Run / $run", 'footplate_run_step{job=~".+"}'),
        Question("Run / Step", 'step{name="gpt"}'),
        Question("Run / Rates (A)", 'rate(a_total{job=~".+"}[30s])'),
        Question("Run / Rates (B)", 'label_replace(b, "x", "$1", "y", "(.+)")'),
    ]


def test_of_an_alert_it_is_asked_what_it_looks_at() -> None:
    rules = [
        {"record": "a:b:last", "expr": "sum(b)"},
        {"alert": "Gone", "expr": 'absent(up{job="x"} == 1) or time() - seen > 5 and up{job="x"} == 0'},
    ]
    assert list(questions.of_rules([{"name": "g", "rules": rules}])) == [
        Question("rule a:b:last", "sum(b)"),
        Question('alert Gone: up{job="x"}', 'up{job="x"}'),
        Question("alert Gone: seen", "seen"),
    ]
