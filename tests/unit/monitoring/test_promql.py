"""Selectors of a query, and what of Grafana's a grammar does not know."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tools.monitoring.promql import Selector, label_values, of_variable, selectors

A_JOB = frozenset({("job", "=~", "$job")})
MINUTES = timedelta(minutes=5)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param('a{job=~"$job"}', [Selector("a", A_JOB)], id="plain"),
        pytest.param("sum by (x) (rate(a[5m]))", [Selector("a", frozenset(), "rate", MINUTES)], id="rate"),
        pytest.param(
            "a / -(b) > bool 1", [Selector("a", frozenset()), Selector("b", frozenset())], id="both-sides"
        ),
        pytest.param(
            "clamp_max(a, 1) or increase(b[5m])",
            [Selector("a", frozenset(), "clamp_max"), Selector("b", frozenset(), "increase", MINUTES)],
            id="functions",
        ),
        pytest.param(
            "max_over_time(rate(a[5m])[1h:])", [Selector("a", frozenset(), "rate", MINUTES)], id="subquery"
        ),
        pytest.param(
            'a{b="1",c!="2",d!~"3"}',
            [Selector("a", frozenset({("b", "=", "1"), ("c", "!=", "2"), ("d", "!~", "3")}))],
            id="matchers",
        ),
        pytest.param(
            "topk(scalar(n), a)",
            [Selector("n", frozenset(), "scalar"), Selector("a", frozenset())],
            id="how-many",
        ),
        pytest.param("vector(1)", [], id="none"),
    ],
)
def test_where_a_query_takes_series_from(query: str, expected: list[Selector]) -> None:
    assert selectors(query) == expected


def test_the_interval_that_grafana_fills_in_is_known_again() -> None:
    [variable] = selectors("rate(a[$__rate_interval])")
    [fixed] = selectors("rate(a[5m])")
    assert variable.over_rate_interval and not fixed.over_rate_interval


@pytest.mark.parametrize("query", ["sum(a", "a{", "rate(a)[", "", "a b"])
def test_what_does_not_parse_is_told(query: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        selectors(query)


def test_what_a_variable_asks() -> None:
    assert of_variable('label_values(a{job=~"$job"}, instance)') == [Selector("a", A_JOB)]
    assert of_variable("label_values(job)") == []
    with pytest.raises(ValueError, match="label_values"):
        of_variable("query_result(a)")
    with pytest.raises(ValueError, match=r"."):
        of_variable("label_values(sum(a, job)")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param('label_values(a{b="1",c="2"}, d)', ('a{b="1",c="2"}', "d"), id="of-a-selector"),
        pytest.param("label_values(d)", ("", "d"), id="of-all-series"),
    ],
)
def test_a_variable_has_the_values_of_a_label(query: str, found: tuple[str, str]) -> None:
    assert label_values(query) == found
