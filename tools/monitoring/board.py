"""What our dashboards have in common: variables, links to each other, sections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from tools.monitoring.expressions import label_values
from tools.monitoring.names import Gauge
from tools.monitoring.panels import SOURCE, Panel

TAG: Final = "footplate"
EVERYTHING: Final = ".+"
# What a link takes along of what is chosen, so that the next dashboard shows the same.
CHOICE: Final = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"


@dataclass(frozen=True)
class Section:
    """Panels under a heading, from left to right, 24 columns wide."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Board:
    """A dashboard; `uid` is its address in Grafana and stays."""

    uid: str
    title: str
    description: str
    sections: Sequence[Section]
    variables: Sequence[dashboard.QueryVariable] = ()
    since: str = "now-24h"

    def json(self) -> dict[str, Any]:
        """As Grafana imports it."""
        built = (
            dashboard.Dashboard(f"Footplate / {self.title}")
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .readonly()
            .time(self.since, "now")
            .timezone("browser")
            .refresh("1m")
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .link(
                dashboard.DashboardLink("Footplate")
                .type(model.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .include_vars(True)
                .keep_time(True)
            )
            .with_variable(_datasource())
        )
        for variable in (*_targets(), *self.variables):
            built.with_variable(variable)
        number = 0
        for section in self.sections:
            number += 1
            built.with_row(dashboard.Row(section.title).id(number))
            for panel in section.panels:
                number += 1
                built.with_panel(panel.id(number))
        encoded: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(built.build()))
        return encoded


def choice(name: str, query: str, *, several: bool) -> dashboard.QueryVariable:
    """A variable whose values are those of a label: one, or several and by default all."""
    variable = (
        dashboard.QueryVariable(name)
        .label(name)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    if several:
        variable.multi(True).include_all(True).all_value(EVERYTHING)
        variable.current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    return variable


def link(uid: str, **variables: str) -> str:
    """The address of another dashboard, with these variables and the rest as it is chosen here."""
    chosen = "".join(f"var-{name}={value}&" for name, value in variables.items())
    return f"/d/{uid}?{chosen}{CHOICE}"


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _targets() -> list[dashboard.QueryVariable]:
    """Of which scraped programs. What else a dashboard asks for, such as GPUs, is of all of them."""
    built = f'{{__name__=~"{Gauge.API_BUILD}|{Gauge.OPERATOR_BUILD}"}}'
    of_job = built.replace("}", ',job=~"$job"}')
    return [
        choice("job", f"label_values({built}, job)", several=True),
        choice("instance", f"label_values({of_job}, instance)", several=True),
    ]


def namespaces(*, several: bool) -> dashboard.QueryVariable:
    """The variable `namespace`: those that have runs."""
    return choice("namespace", label_values(Gauge.RUN_STATUS, "namespace"), several=several)
