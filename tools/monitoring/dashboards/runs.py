"""What several dashboards ask of runs in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tools.monitoring.board import link
from tools.monitoring.expressions import Expression, Like, level
from tools.monitoring.names import Gauge

KEYS: Final[Mapping[str, str]] = {"namespace": "Namespace", "name": "Run"}
RUN: Final = tuple(KEYS)
TRAINS: Final = Like("Running|Checkpointing")
BEGINS: Final = Like("Admitted|Starting|Preflight|Restarting")
OF_RUN: Final = "{{namespace}}/{{name}}"
# Where a click on a run in a table leads to.
THIS_RUN: Final = link("footplate-run", namespace="${__data.fields.Namespace}", run="${__data.fields.Run}")
# By phase.
COLORS: Final[Mapping[str, str]] = {
    "Queued": "purple",
    "Admitted": "light-blue",
    "Starting": "light-blue",
    "Preflight": "light-blue",
    "Running": "green",
    "Checkpointing": "dark-green",
    "Restarting": "orange",
    "Suspending": "blue",
    "Suspended": "blue",
    "Succeeded": "text",
    "Failed": "red",
}


def or_zero(counted: Expression) -> Expression:
    """What is counted, and 0 where there is none: but nothing where no API was scraped that would know."""
    return counted.otherwise(level(Gauge.EXPORTS_RUNS).max() * 0)
