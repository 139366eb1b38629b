"""What a Prometheus is asked for a dashboard, and its answers in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tools.monitoring.answers import Answers, Series, Span, asked, filled

SPAN = Span(start=0, end=3600, step=30, scrape=15)
BOARD = {
    "panels": [
        {
            "id": 3,
            "type": "timeseries",
            "targets": [
                {"refId": "A", "expr": 'a{job=~"$job",run="$run"}', "range": True},
                {"refId": "B", "expr": "rate(b[$__rate_interval])", "instant": True},
            ],
        }
    ]
}


class Prometheus:
    """Answers each question with the same, and notes it."""

    def __init__(self, data: Any) -> None:
        self.data, self.questions = data, []

    def ask(self, path: str, parameters: Mapping[str, str]) -> Any:
        self.questions.append((path, dict(parameters)))
        return self.data


@pytest.mark.parametrize(
    ("query", "text"),
    [
        pytest.param('a{job=~"$job"}', 'a{job=~".+"}', id="all"),
        pytest.param('a{name="$run"}', 'a{name="tiny"}', id="chosen"),
        pytest.param('a{name="${run}"}', 'a{name="tiny"}', id="in-braces"),
        pytest.param("rate(a[$__rate_interval])", "rate(a[60s])", id="interval"),
        pytest.param('label_replace(a, "x", "$1", "y", "(.+)")', 'label_replace(a, "x", "$1", "y", "(.+)")'),
    ],
)
def test_variables_are_filled_in(query: str, text: str) -> None:
    assert filled(query, {"run": "tiny"}, "60s") == text


@pytest.mark.parametrize(
    ("step", "scrape", "interval"),
    [pytest.param(15, 30, "120s", id="four-scrapes"), pytest.param(720, 30, "750s", id="step-and-scrape")],
)
def test_the_interval_of_a_rate_is_grafanas(step: int, scrape: int, interval: str) -> None:
    assert Span(0, 3600, step, scrape).rate_interval == interval


def test_a_graph_asks_for_a_range_and_a_number_for_now() -> None:
    prometheus = Prometheus({"resultType": "vector", "result": []})
    asked(BOARD, prometheus.ask, {"run": "tiny"}, SPAN)
    assert prometheus.questions == [
        ("query_range", {"query": 'a{job=~".+",run="tiny"}', "start": "0", "end": "3600", "step": "30"}),
        ("query", {"query": "rate(b[60s])", "time": "3600"}),
    ]


@pytest.mark.parametrize(
    ("data", "series"),
    [
        pytest.param(
            {
                "resultType": "matrix",
                "result": [{"metric": {"__name__": "a", "x": "1"}, "values": [[5, "2"]]}],
            },
            (Series({"x": "1"}, ((5.0, 2.0),)),),
            id="range",
        ),
        pytest.param(
            {"resultType": "vector", "result": [{"metric": {}, "value": [5, "2.5"]}]},
            (Series({}, ((5.0, 2.5),)),),
            id="instant",
        ),
        pytest.param(
            {
                "resultType": "matrix",
                "result": [{"metric": {}, "values": [[5, "NaN"], [6, "1"], [7, "+Inf"]]}],
            },
            (Series({}, ((6.0, 1.0),)),),
            id="no-number-is-nothing",
        ),
        pytest.param(
            {"resultType": "vector", "result": [{"metric": {}, "value": [5, "NaN"]}]}, (), id="only-nan"
        ),
        pytest.param({"resultType": "scalar", "result": [5, "7"]}, (Series({}, ((5.0, 7.0),)),), id="scalar"),
    ],
)
def test_answers_are_read_and_survive_a_file(data: Any, series: tuple[Series, ...]) -> None:
    answers = asked(BOARD, Prometheus(data).ask, {}, SPAN)
    assert answers.of({"id": 3}, "A") == series
    assert Answers.of_json(json.loads(json.dumps(answers.json()))) == answers


def test_what_was_not_asked_has_no_answer() -> None:
    assert Answers(SPAN, {}).of({"id": 3}, "A") == ()
