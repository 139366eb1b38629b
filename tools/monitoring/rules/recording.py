"""Series that are recorded, since dashboards may not ask for them as they are; pure.

A dashboard of ours shows a counter by its rate only, and "spent so far" is none: it is recorded as a level,
under a name that does not end in `_total`. Each recorded series keeps `job` and `instance`, by which every
panel chooses. Names are Prometheus' own, `level:metric:operations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent
from typing import Final

from tools.monitoring.rules.scope import scoped


@dataclass(frozen=True)
class Recording:
    """A series, and what it is; one line of docs/observability.md tells it."""

    name: str
    expression: str

    def rule(self) -> dict[str, str]:
        """As Prometheus reads it."""
        return {"record": self.name, "expr": scoped(dedent(self.expression).strip())}


def _level(name: str, counter: str, labels: str) -> Recording:
    """What `counter` has counted, without the labels that tell how and where it was scraped."""
    return Recording(name, f"sum by (job, instance, {labels}) ({counter})")


_RUN: Final = "namespace, name"
_SHARE: Final = "namespace, profile"

RUNS: Final = (
    _level("run:footplate_cost_dollars:last", "footplate_run_cost_dollars_total", _RUN),
    _level("run:footplate_energy_joules:last", "footplate_run_energy_joules_total", _RUN),
    _level("run:footplate_carbon_grams:last", "footplate_run_carbon_grams_total", _RUN),
    _level("run:footplate_restarts:last", "footplate_run_restarts_total", _RUN),
)

_IDLE_RATE: Final = "sum by (job, instance, profile) (rate(footplate_idle_dollars_total[5m]))"
_COST_RATE: Final = "sum by (job, instance, {labels}) (rate(footplate_cost_dollars_total[5m]))"
_CARRIED: Final = f"({_COST_RATE.format(labels='profile')} > 0)"

COSTS: Final = (
    _level("namespace_profile:footplate_cost_dollars:last", "footplate_month_to_date_cost_dollars", _SHARE),
    _level("namespace_profile:footplate_energy_joules:last", "footplate_month_to_date_energy_joules", _SHARE),
    _level("namespace_profile:footplate_carbon_grams:last", "footplate_month_to_date_carbon_grams", _SHARE),
    _level("profile:footplate_idle_dollars:last", "footplate_month_to_date_idle_dollars", "profile"),
    # Shared among namespaces as they pay for the profile just now; where nobody does, it is nobody's.
    Recording(
        "namespace_profile:footplate_idle_dollars:rate5m",
        f"""
        {_COST_RATE.format(labels=_SHARE)}
          / on (job, instance, profile) group_left () {_CARRIED}
          * on (job, instance, profile) group_left () {_IDLE_RATE}
        or
        {_IDLE_RATE}
          unless on (job, instance, profile) {_CARRIED}
        """,
    ),
)

OPERATOR: Final = (
    # Where nothing but queues has happened for an hour there is no goodput, and not one of 0/0.
    Recording(
        "footplate_operator:goodput:ratio_rate1h",
        """
        sum by (job, instance) (rate(footplate_operator_run_seconds_total{account="productive"}[1h]))
          / (sum by (job, instance) (rate(footplate_operator_run_seconds_total{account!="queued"}[1h])) > 0)
        """,
    ),
)

GROUPS: Final = {
    "footplate-runs.rules": RUNS,
    "footplate-costs.rules": COSTS,
    "footplate-operator.rules": OPERATOR,
}
