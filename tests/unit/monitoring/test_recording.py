"""Recorded series: each can be chosen by job and instance, and follows from metrics that are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from tools.monitoring import promql
from tools.monitoring.names import Recorded
from tools.monitoring.rules import recording
from tools.monitoring.rules.recording import Recording

from tests.support.exposition import documented

RECORDED = [pytest.param(known, id=known.name) for group in recording.GROUPS.values() for known in group]
KEPT = {"job", "instance"}


def nodes(node: Any) -> Iterator[Any]:
    """`node` and all below it."""
    yield node
    for name in ("lhs", "rhs", "expr", "args"):
        below = getattr(node, name, ())
        for child in below if isinstance(below, list) else [below] if below != () else []:
            yield from nodes(child)


@pytest.mark.parametrize("known", RECORDED)
def test_job_and_instance_are_kept(known: Recording) -> None:
    """By every aggregation, and no two programs meet in an operation."""
    found = list(nodes(promql_parser.parse(known.rule()["expr"])))
    sums = [node for node in found if isinstance(node, promql_parser.AggregateExpr)]
    assert sums
    for node in sums:
        assert str(node.modifier.type).endswith("By")
        assert set(node.modifier.labels) >= KEPT, node.prettify()
    for node in found:
        matching = getattr(getattr(node, "modifier", None), "matching", None)
        assert matching is None or set(matching.labels) >= KEPT, node.prettify()


@pytest.mark.parametrize("known", RECORDED)
def test_it_asks_for_metrics_that_are_there_of_its_own_release(known: Recording) -> None:
    asked = promql.selectors(known.rule()["expr"])
    assert {selector.name for selector in asked} <= documented()
    for selector in asked:
        program = "operator" if "_operator_" in selector.name else "api"
        assert ("job", "=", f"footplate-{program}") in selector.matchers


def test_each_has_its_row_and_no_name_of_a_counter() -> None:
    names = {param.id for param in RECORDED}
    assert names == documented("Recorded series") == set(Recorded)
    assert [name for name in names if name.endswith("_total")] == [], "a dashboard may show their rate only"
