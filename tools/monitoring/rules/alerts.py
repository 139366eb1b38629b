"""All alerts, in the groups in which Prometheus evaluates them; pure.

No group is called as one of recorded series: in the chart's PrometheusRule they stand side by side.
"""

from __future__ import annotations

from typing import Final

from tools.monitoring.rules import control_plane, runs

GROUPS: Final = {
    "footplate-operator": control_plane.OPERATOR,
    "footplate-programs": control_plane.BOTH,
    "footplate-api": control_plane.API,
    "footplate-runs": runs.RUNS,
    "footplate-fleet": runs.FLEET,
}
ALERTS: Final = {known.name: known for group in GROUPS.values() for known in group}
