"""PromQL of dashboards and rules, read by Prometheus' own grammar; pure.

A query of a dashboard has variables that only Grafana fills in. `$__rate_interval` is no duration that a
grammar knows: it is read as one that nobody writes, by which it is known again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import promql_parser as promql

RATE_INTERVAL: Final = "$__rate_interval"
_STANDS_IN: Final = timedelta(seconds=987_654)
_READABLE: Final = f"{_STANDS_IN // timedelta(seconds=1)}s"
RATES: Final = frozenset({"rate", "irate", "increase"})
_LABEL_VALUES: Final = re.compile(
    r"label_values\((?:(?P<selector>.+),\s*)?(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\)", re.DOTALL
)


@dataclass(frozen=True)
class Selector:
    """A place where a query takes series from Prometheus."""

    name: str
    matchers: frozenset[tuple[str, str, str]]  # label, operator as it is written, value
    inside: str | None = None  # the function whose argument it is, if there is one
    range: timedelta | None = None

    @property
    def over_rate_interval(self) -> bool:
        """Whether its range is what Grafana finds right for a rate."""
        return self.range == _STANDS_IN


def selectors(query: str) -> list[Selector]:
    """Those of `query`. Raises ValueError, in the grammar's words, where it does not parse."""
    return list(_selectors(promql.parse(query.replace(RATE_INTERVAL, _READABLE))))


def of_variable(query: str) -> list[Selector]:
    """The selectors of a variable's query, `label_values(selector, label)`; ValueError for any other."""
    selector, _ = label_values(query)
    return selectors(selector) if selector else []


def label_values(query: str) -> tuple[str, str]:
    """Selector, which may be empty, and label of a variable's query; ValueError for any other."""
    found = _LABEL_VALUES.fullmatch(query.strip())
    if found is None:
        raise ValueError("is no label_values(selector, label)")
    return found["selector"] or "", found["label"]


def _selectors(node: Any, inside: str | None = None, within: timedelta | None = None) -> Iterator[Selector]:
    match node:
        case promql.VectorSelector():
            yield Selector(node.name or "", frozenset(_matchers(node)), inside, within)
        case promql.MatrixSelector():
            yield from _selectors(node.vector_selector, inside, node.range)
        case promql.Call():
            for argument in node.args:
                yield from _selectors(argument, node.func.name)
        case promql.BinaryExpr():
            yield from _selectors(node.lhs, inside)
            yield from _selectors(node.rhs, inside)
        case promql.AggregateExpr():
            yield from _selectors(node.param)
            yield from _selectors(node.expr, inside)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _selectors(node.expr, inside)


_OPERATORS: Final = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


def _matchers(node: Any) -> Iterator[tuple[str, str, str]]:
    for matcher in node.matchers.matchers:
        yield matcher.name, _OPERATORS[str(matcher.op).rpartition(".")[2]], matcher.value
