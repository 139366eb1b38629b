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

from footplate_api import lenient
from footplate_api.database import Database, ReadSession
from footplate_api.errors import DatabaseUnavailable
from footplate_api.metrics import repository as metrics
from footplate_api.observation import MirrorHealth
from footplate_api.served import Served
from footplate_api.system import gauges, ranking, repository, spending
from footplate_api.system.gauges import Fingerprint, Gauged, Shown, Written
from footplate_api.system.numbers import numbers
from footplate_api.system.schemas import Readiness, Version
from footplate_api.system.spending import Spending

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
class Found:
    """Data that a scrape reads from the database."""

    runs: Mapping[str, Gauged | Written]  # by uid, in their order; Written where nothing has changed
    phases: Mapping[str | None, int]
    left_out: int


async def found(session: ReadSession, served: Served, now: datetime, kept: Mapping[str, Written]) -> Found:
    """Return the runs that have gauges, by priority and youngest first, and counts of all runs."""
    phases = await repository.phases(session, served)
    standing: list[repository.Standing] = []
    for among in ranking.ranks(phases):
        if len(standing) < GAUGED_RUNS:
            standing += await repository.youngest(session, served, among, GAUGED_RUNS - len(standing))
    room = GAUGED_RUNS - len(standing)
    lately, ended = await repository.ended(session, served, now - GAUGED_AFTER_END, room)
    standing += lately
    runs = await _runs(session, standing, kept)
    live = sum(count for phase, count in phases.items() if phase not in ranking.ENDED)
    return Found(runs, phases, max(live + ended - len(runs), 0))


async def _runs(
    session: ReadSession, standing: Sequence[repository.Standing], kept: Mapping[str, Written]
) -> Mapping[str, Gauged | Written]:
    """Return each run's cached lines, or its current state if that has changed."""
    versions: dict[str, int] = dict(standing)
    uids = list(versions)
    places = await metrics.newest_places(session, uids)
    given_up = await metrics.given_up(session, uids)
    fingerprints = {
        uid: Fingerprint(version, places.get(uid), given_up.get(uid, (0, 0)))
        for uid, version in versions.items()
    }
    same = {uid for uid in uids if uid in kept and kept[uid].fingerprint == fingerprints[uid]}
    changed = [uid for uid in uids if uid not in same]
    known = {run[0]: run for run in await repository.known(session, changed)}
    new = {uid: places[uid] for uid in changed if uid in places}
    rows = await metrics.rows_at(session, new, gauges.MEASURED)
    found: dict[str, Gauged | Written] = {}
    for uid in uids:
        if uid in same:
            found[uid] = kept[uid]
        elif uid in known:
            _, namespace, name, phase, step, loss, status = known[uid]
            told = numbers(lenient.parsed(status))
            found[uid] = Gauged(fingerprints[uid], namespace, name, phase, step, loss, told, rows.get(uid))
    return found


class Scrapes:
    """Prometheus exporter, which caches each run's lines, so that a scrape reads only what changed."""

    def __init__(self, database: Database, registry: CollectorRegistry, served: Served, replica: str) -> None:
        self._database, self._registry, self._served, self._replica = database, registry, served, replica
        self.kept: Mapping[str, Written] = {}  # by the run's uid, of those that the last scrape showed
        self.spending = Spending()  # a pipeline finds it every now and then

    async def text(self, now: datetime) -> bytes:
        """Return the process's metrics and, on the replica that exports them, the runs' gauges.

        Without the database only the former: they are needed most in an outage. The text is formatted
        in a thread: with a thousand runs it is two megabytes, and other requests are served meanwhile.
        """
        read: Found | None = None
        with suppress(DatabaseUnavailable):
            async with self._database.read(quick=True) as session:
                if await repository.exports(session, self._replica):
                    read = await found(session, self._served, now, self.kept)
        return await asyncio.to_thread(self._text, read)

    def _text(self, read: Found | None) -> bytes:
        said = "" if read is None else spending.exposition(self.spending)
        runs = gauges.exposition(self._shown(read))
        return b"".join((generate_latest(self._registry), runs.encode(), said.encode()))

    def _shown(self, read: Found | None) -> Shown | None:
        if read is None:
            return None  # what is kept stays: counters go on from there when the database is back
        self.kept = lines = {
            uid: run if isinstance(run, Written) else gauges.written(run, self.kept.get(uid))
            for uid, run in read.runs.items()
        }
        return Shown(list(lines.values()), read.phases, read.left_out)
