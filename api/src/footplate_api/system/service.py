"""Health, version and numbers of the process."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from footplate_api.database import Database
from footplate_api.errors import DatabaseUnavailable
from footplate_api.metrics import repository as metrics
from footplate_api.observation import MirrorHealth
from footplate_api.system import repository
from footplate_api.system.gauges import RUN, Watched, families
from footplate_api.system.schemas import Readiness, Version

GAUGED_RUNS: Final = 1000
GAUGED_AFTER_END: Final = timedelta(minutes=15)


async def readiness(database: Database, mirror: MirrorHealth) -> Readiness:
    """Raises DatabaseUnavailable; that it is full, or Kubernetes is away, only degrades: reads go on."""
    await database.ping()
    full = None if database.full is None else f"The volume of the database is full ({database.full})."
    said = " ".join(text for text in (full, mirror.failure) if text)
    return Readiness(
        database="ok" if full is None else "full",
        kubernetes="ok" if mirror.failure is None else "degraded",
        detail=said or None,
    )


def versions(revision: str | None) -> Version:
    """Versions of the installed distributions."""
    return Version(api=version("footplate-api"), contracts=version("footplate-contracts"), revision=revision)


class _Families(Collector):
    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._families


def run_families(rows: Iterable[Watched]) -> list[GaugeMetricFamily]:
    """Gauges of runs: their labels are bounded by the number of rows."""
    watched = list(rows)
    info = GaugeMetricFamily("footplate_run_info", "1, with the phase.", labels=(*RUN, "phase"))
    step = GaugeMetricFamily("footplate_run_step", "Last finished step.", labels=RUN)
    loss = GaugeMetricFamily("footplate_run_loss", "Loss of that step.", labels=RUN)
    for entry in watched:
        at, value = standing(entry)
        step.add_metric((entry.run.namespace, entry.run.name), at)
        info.add_metric((entry.run.namespace, entry.run.name, entry.run.phase or ""), 1)
        if value is not None:
            loss.add_metric((entry.run.namespace, entry.run.name), value)
    return [step, loss, info, *families(watched)]


def standing(watched: Watched) -> tuple[int, float | None]:
    """(step, loss) from the newest generation's last row, else from the status, which lags behind it."""
    if watched.newest is None:
        return watched.run.step, watched.run.loss
    return watched.newest.step, math.nan if watched.newest.loss is None else watched.newest.loss


async def exposition(database: Database, registry: CollectorRegistry, now: datetime) -> bytes:
    """The process's instruments and the runs' gauges in Prometheus' text format.

    Without the database only the former: an outage is when they are wanted most.
    """
    try:
        async with database.read() as session:
            runs = await repository.watched(session, now - GAUGED_AFTER_END, GAUGED_RUNS)
            newest = await metrics.newest_rows(session, [run.uid for run in runs])
    except DatabaseUnavailable:
        return generate_latest(registry)
    watched = [Watched(run, newest.get(run.uid)) for run in runs]
    return generate_latest(registry) + generate_latest(_Families(run_families(watched)))
