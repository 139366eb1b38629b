"""Health, version and numbers of the process."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from footplate_api.database import Database
from footplate_api.errors import DatabaseUnavailable
from footplate_api.observation import MirrorHealth
from footplate_api.system import repository
from footplate_api.system.gauges import RUN, families
from footplate_api.system.schemas import Readiness, Version

GAUGED_RUNS: Final = 1000
GAUGED_AFTER_END: Final = timedelta(minutes=15)


async def readiness(database: Database, mirror: MirrorHealth) -> Readiness:
    """Raises DatabaseUnavailable; Kubernetes only degrades."""
    await database.ping()
    state = "ok" if mirror.failure is None else "degraded"
    return Readiness(kubernetes=state, detail=mirror.failure)


def versions(revision: str | None) -> Version:
    """Versions of the installed distributions."""
    return Version(api=version("footplate-api"), contracts=version("footplate-contracts"), revision=revision)


class _Families(Collector):
    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._families


def run_families(rows: Iterable[Any]) -> list[GaugeMetricFamily]:
    """Gauges of runs: their labels are bounded by the number of rows."""
    watched = list(rows)
    info = GaugeMetricFamily("footplate_run_info", "1, with the phase.", labels=(*RUN, "phase"))
    step = GaugeMetricFamily("footplate_run_step", "Last finished step.", labels=RUN)
    loss = GaugeMetricFamily("footplate_run_loss", "Loss of that step.", labels=RUN)
    for row in watched:
        at, value = standing(row)
        step.add_metric((row.namespace, row.name), at)
        info.add_metric((row.namespace, row.name, row.phase or ""), 1)
        if value is not None:
            loss.add_metric((row.namespace, row.name), value)
    return [step, loss, info, *families(watched)]


def standing(row: Any) -> tuple[int, float | None]:
    """(step, loss) from the newest metric row, else from the status, which lags behind it."""
    newest = row.StepMetric
    if newest is None:
        return row.step, row.loss
    return newest.step, math.nan if newest.loss is None else newest.loss


async def exposition(database: Database, registry: CollectorRegistry, now: datetime) -> bytes:
    """The process's instruments and the runs' gauges in Prometheus' text format.

    Without the database only the former: an outage is when they are wanted most.
    """
    try:
        async with database.read() as session:
            rows = await repository.watched(session, now - GAUGED_AFTER_END, GAUGED_RUNS)
    except DatabaseUnavailable:
        return generate_latest(registry)
    return generate_latest(registry) + generate_latest(_Families(run_families(rows)))
