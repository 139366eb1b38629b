"""Health, versions and Prometheus metrics of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest

from footplate_api.db.database import Database, ReadSession
from footplate_api.errors import DatabaseUnavailable
from footplate_api.instruments import MirrorHealth
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.metrics import repository as metrics
from footplate_api.serialization import tolerant_json
from footplate_api.system import cost_metrics, gauges, phase_priority, repository
from footplate_api.system.cost_metrics import CostSnapshot
from footplate_api.system.gauges import Fingerprint, RunLines, RunSnapshot, ScrapedRuns
from footplate_api.system.schemas import Readiness, Version
from footplate_api.system.status_numbers import parse_status

GAUGED_RUNS: Final = 1000
GAUGED_AFTER_END: Final = timedelta(minutes=15)


async def readiness(database: Database, mirror: MirrorHealth) -> Readiness:
    """Return the readiness; raises DatabaseUnavailable.

    A full database, or missing Kubernetes, only degrades: reads work.
    """
    await database.ping()
    full = None if database.full is None else f"The volume of the database is full ({database.full})."
    said = " ".join(text for text in (full, mirror.failure) if text)
    return Readiness(
        database="ok" if full is None else "full",
        kubernetes="ok" if mirror.failure is None else "degraded",
        detail=said or None,
    )


def versions(revision: str | None) -> Version:
    """Return the versions of the installed distributions."""
    return Version(api=version("footplate-api"), contracts=version("footplate-contracts"), revision=revision)


@dataclass(frozen=True)
class ScrapeData:
    """Data that a scrape reads from the database."""

    runs: Mapping[str, RunSnapshot | RunLines]  # by uid, in their order; Written where nothing has changed
    phases: Mapping[str | None, int]
    left_out: int


async def read_scrape_data(
    session: ReadSession, served: NamespaceScope, now: datetime, kept: Mapping[str, RunLines]
) -> ScrapeData:
    """Return the runs that have gauges, by priority and youngest first, and counts of all runs."""
    phases = await repository.phases(session, served)
    standing: list[repository.Standing] = []
    for among in phase_priority.group_by_priority(phases):
        if len(standing) < GAUGED_RUNS:
            standing += await repository.youngest(session, served, among, GAUGED_RUNS - len(standing))
    room = GAUGED_RUNS - len(standing)
    lately, ended = await repository.ended(session, served, now - GAUGED_AFTER_END, room)
    standing += lately
    runs = await _runs(session, standing, kept)
    live = sum(count for phase, count in phases.items() if phase not in phase_priority.ENDED)
    return ScrapeData(runs, phases, max(live + ended - len(runs), 0))


async def _runs(
    session: ReadSession, standing: Sequence[repository.Standing], kept: Mapping[str, RunLines]
) -> Mapping[str, RunSnapshot | RunLines]:
    """Return each run's cached lines, or its current state if that has changed."""
    versions: dict[str, int] = dict(standing)
    uids = list(versions)
    places = await metrics.newest_positions(session, uids)
    given_up = await metrics.dropped_counts(session, uids)
    fingerprints = {
        uid: Fingerprint(version, places.get(uid), given_up.get(uid, (0, 0)))
        for uid, version in versions.items()
    }
    same = {uid for uid in uids if uid in kept and kept[uid].fingerprint == fingerprints[uid]}
    changed = [uid for uid in uids if uid not in same]
    known = {run[0]: run for run in await repository.get_runs(session, changed)}
    new = {uid: places[uid] for uid in changed if uid in places}
    rows = await metrics.rows_at(session, new, gauges.MEASURED)
    found: dict[str, RunSnapshot | RunLines] = {}
    for uid in uids:
        if uid in same:
            found[uid] = kept[uid]
        elif uid in known:
            _, namespace, name, phase, step, loss, status = known[uid]
            told = parse_status(tolerant_json.parse_object(status))
            found[uid] = RunSnapshot(
                fingerprints[uid], namespace, name, phase, step, loss, told, rows.get(uid)
            )
    return found


class MetricsExporter:
    """Prometheus exporter, which caches each run's lines, so that a scrape reads only what changed."""

    def __init__(
        self, database: Database, registry: CollectorRegistry, served: NamespaceScope, replica: str
    ) -> None:
        self._database, self._registry, self._served, self._replica = database, registry, served, replica
        self.kept: Mapping[str, RunLines] = {}  # by the run's uid, of those that the last scrape showed
        self.spending = CostSnapshot()  # a pipeline finds it every now and then

    async def text(self, now: datetime) -> bytes:
        """Return the process's metrics and, on the replica that exports them, the runs' gauges.

        Without the database only the former: they are needed most in an outage. The text is formatted
        in a thread: with a thousand runs it is two megabytes, and other requests are served meanwhile.
        """
        read: ScrapeData | None = None
        with suppress(DatabaseUnavailable):
            async with self._database.read(quick=True) as session:
                if await repository.is_exporter(session, self._replica):
                    read = await read_scrape_data(session, self._served, now, self.kept)
        return await asyncio.to_thread(self._text, read)

    def _text(self, read: ScrapeData | None) -> bytes:
        said = "" if read is None else cost_metrics.exposition(self.spending)
        runs = gauges.exposition(self._shown(read))
        return b"".join((generate_latest(self._registry), runs.encode(), said.encode()))

    def _shown(self, read: ScrapeData | None) -> ScrapedRuns | None:
        if read is None:
            return None  # what is kept stays: counters go on from there when the database is back
        self.kept = lines = {
            uid: run if isinstance(run, RunLines) else gauges.format_run(run, self.kept.get(uid))
            for uid, run in read.runs.items()
        }
        return ScrapedRuns(list(lines.values()), read.phases, read.left_out)
