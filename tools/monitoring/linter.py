"""The rules of Grafana's dashboard linter, as tests of ours; pure.

Each rule is one function that tells in words what of a dashboard breaks it, under the name that it has
there. They are stricter in one thing: there, some kinds of panels are let off, here each keeps each rule.

A dashboard is what its JSON says. Source of the rules: the documentation of grafana/dashboard-linter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from tools.monitoring import promql
from tools.monitoring.promql import Selector

Json = Mapping[str, Any]
Rule = Callable[[Json], Iterator[str]]

DATASOURCE: Final = "$datasource"
ALL: Final = ".+"
ON_TIME_CHANGE: Final = 2  # of a variable's `refresh`
# Units by which our panels may show a number, as Grafana names them.
_UNITS: Final = """
none short percentunit s bytes Bps ops reqps cps watt joule kwatth massg celsius currencyUSD
dateTimeFromNow dateTimeAsIso
"""
UNITS: Final = frozenset(_UNITS.split())


def faults(dashboard: Json) -> list[str]:
    """What breaks a rule, each with the rule's name before it."""
    return [f"{name}: {said}" for name, rule in RULES.items() for said in rule(dashboard)]


def panels(dashboard: Json) -> list[Json]:
    """All panels, those of rows included, rows themselves not."""
    found: list[Json] = []
    for panel in dashboard.get("panels", ()):
        found += panels(panel) if panel["type"] == "row" else [panel]
    return found


def targets(dashboard: Json) -> list[tuple[str, Json]]:
    """(Title of the panel, target) of all queries."""
    return [
        (str(panel.get("title")), target)
        for panel in panels(dashboard)
        for target in panel.get("targets", ())
    ]


def variables(dashboard: Json) -> dict[str, Json]:
    """By name."""
    return {known["name"]: known for known in dashboard.get("templating", {}).get("list", ())}


def _source(of: Json) -> str:
    """Whose `of` asks: the uid of its data source."""
    found = of.get("datasource")
    said = found.get("uid") if isinstance(found, Mapping) else found
    return str(said).replace("${datasource}", DATASOURCE)


def _datasource(dashboard: Json) -> Iterator[str]:
    found = variables(dashboard).get("datasource")
    if found is None or found.get("type") != "datasource":
        yield "there should be a variable datasource of the type datasource"
        return
    if found.get("query") != "prometheus":
        yield f"the variable datasource is of {found.get('query')!r}, it should be of 'prometheus'"
    if found.get("label") != "Data source":
        yield f"the variable datasource has the label {found.get('label')!r}, it should be 'Data source'"


def _chosen_by(label: str, dashboard: Json) -> Iterator[str]:
    found = variables(dashboard).get(label)
    if found is None or found.get("type") != "query":
        yield f"there should be a variable {label} of the type query"
        return
    wanted = {"label": label, "multi": True, "includeAll": True, "allValue": ALL}
    for name, right in wanted.items():
        if found.get(name) != right:
            yield f"{name} of the variable {label} is {found.get(name)!r}, it should be {right!r}"
    if _source(found) != DATASOURCE:
        yield f"the variable {label} asks {_source(found)}, it should ask {DATASOURCE}"


def _queries_of_variables(dashboard: Json) -> Iterator[str]:
    for name, known in variables(dashboard).items():
        if known.get("type") == "query":
            try:
                promql.of_variable(query_of(known))
            except ValueError as error:
                yield f"the query of the variable {name}: {error}"


def query_of(variable: Json) -> str:
    """What a variable asks Prometheus."""
    query = variable.get("query", "")
    return str(query.get("query", "") if isinstance(query, Mapping) else query)


def _reload(dashboard: Json) -> Iterator[str]:
    for name, known in variables(dashboard).items():
        if known.get("type") == "query" and known.get("refresh") != ON_TIME_CHANGE:
            yield f"the variable {name} should be asked for again when the time range changes"


def _panel_datasource(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        own = [target for target in panel.get("targets", ()) if "datasource" in target]
        for asking in (panel, *own):
            if _source(asking) != DATASOURCE:
                yield f"panel {panel.get('title')!r} asks {_source(asking)}, it should ask {DATASOURCE}"


def _described(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        for what in ("title", "description"):
            if not panel.get(what):
                yield f"panel {panel.get('title')!r} ({panel.get('id')}) should have a {what}"


def _units(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        if defaults.get("unit") not in UNITS and not defaults.get("mappings"):
            yield f"panel {panel.get('title')!r} has the unit {defaults.get('unit')!r}, which is none"


def _asks(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        if not panel.get("targets"):
            yield f"panel {panel.get('title')!r} asks nothing"


def _no_logs(dashboard: Json) -> Iterator[str]:
    """Of both rules about LogQL: none of our numbers is in Loki."""
    for title, target in targets(dashboard):
        source = target.get("datasource")
        if isinstance(source, Mapping) and source.get("type") == "loki":
            yield f"panel {title!r} asks Loki"


def _parses(dashboard: Json) -> Iterator[str]:
    for title, target in targets(dashboard):
        try:
            promql.selectors(str(target.get("expr", "")))
        except ValueError as error:
            yield f"panel {title!r}: {target.get('expr')}: {error}"


def _selectors(dashboard: Json) -> Iterator[tuple[str, Selector]]:
    """(Title, selector) of all queries that parse."""
    for title, target in targets(dashboard):
        try:
            found = promql.selectors(str(target.get("expr", "")))
        except ValueError:  # which is told by another rule
            continue
        yield from ((title, selector) for selector in found)


def _rate_interval(dashboard: Json) -> Iterator[str]:
    for title, selector in _selectors(dashboard):
        if selector.inside in promql.RATES and not selector.over_rate_interval:
            asked = f"{selector.inside} of {selector.name}"
            yield f"panel {title!r}: {asked} should be over {promql.RATE_INTERVAL}"


def _matches(label: str, dashboard: Json) -> Iterator[str]:
    for title, selector in _selectors(dashboard):
        if (label, "=~", f"${label}") not in selector.matchers:
            yield f'panel {title!r}: {selector.name} should be of {label}=~"${label}"'


def _counters(dashboard: Json) -> Iterator[str]:
    for title, selector in _selectors(dashboard):
        if selector.name.endswith("_total") and selector.inside not in promql.RATES:
            yield f"panel {title!r}: {selector.name} should stand in rate, irate or increase"


def _uneditable(dashboard: Json) -> Iterator[str]:
    if dashboard.get("editable") is not False:
        yield "it should not be editable: the next upgrade would take back what somebody edits"


RULES: Final[Mapping[str, Rule]] = {
    "template-datasource-rule": _datasource,
    "template-job-rule": partial(_chosen_by, "job"),
    "template-instance-rule": partial(_chosen_by, "instance"),
    "template-label-promql-rule": _queries_of_variables,
    "template-on-time-change-reload-rule": _reload,
    "panel-datasource-rule": _panel_datasource,
    "panel-title-description-rule": _described,
    "panel-units-rule": _units,
    "panel-no-targets-rule": _asks,
    "target-logql-rule": _no_logs,
    "target-logql-auto-rule": _no_logs,
    "target-promql-rule": _parses,
    "target-rate-interval-rule": _rate_interval,
    "target-job-rule": partial(_matches, "job"),
    "target-instance-rule": partial(_matches, "instance"),
    "target-counter-agg-rule": _counters,
    "uneditable-dashboard-rule": _uneditable,
}
