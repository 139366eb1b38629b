"""All that dashboards and rules ask Prometheus, with the variables filled in; pure.

Grafana fills variables in, and Prometheus evaluates rules. A program that wants to know what each of them
gets asks here, and sends the text on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tools.monitoring import linter, promql
from tools.monitoring.answers import filled

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """One query, and where it stands: `Run / Loss`, `rule run:footplate_restarts:last`."""

    where: str
    query: str


def of_dashboard(dashboard: Json, chosen: Mapping[str, str], rate_interval: str) -> Iterator[Question]:
    """Those of its panels and variables.

    Args:
        chosen: values of variables by name; the others are at All.
        rate_interval: what `$__rate_interval` is, such as `1m`.
    """
    title = dashboard["title"]
    fill = partial(filled, chosen=chosen, rate_interval=rate_interval)
    for name, variable in linter.variables(dashboard).items():
        if variable["type"] == "query":
            for selector in promql.of_variable(_asked(variable)):
                yield Question(f"{title} / ${name}", fill(_selector(selector)))
    for panel in linter.panels(dashboard):
        targets = panel.get("targets", ())
        for target in targets:
            place = f" ({target['refId']})" if len(targets) > 1 else ""
            yield Question(f"{title} / {panel['title']}{place}", fill(target["expr"]))


def of_rules(groups: Iterable[Json]) -> Iterator[Question]:
    """What recording rules record, and each selector of alerts: none of them is to fire."""
    for group in groups:
        for rule in group["rules"]:
            if "record" in rule:
                yield Question(f"rule {rule['record']}", rule["expr"])
                continue
            names = dict.fromkeys(_selector(selector) for selector in promql.selectors(rule["expr"]))
            yield from (Question(f"alert {rule['alert']}: {name}", name) for name in names)


def _asked(variable: Json) -> str:
    query = variable["query"]
    return str(query["query"] if isinstance(query, Mapping) else query)


def _selector(selector: promql.Selector) -> str:
    """Its series now; a range is left away."""
    matchers = ",".join(
        f'{label}{operator}"{_quoted(value)}"' for label, operator, value in sorted(selector.matchers)
    )
    return f"{selector.name}{{{matchers}}}" if matchers else selector.name


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
