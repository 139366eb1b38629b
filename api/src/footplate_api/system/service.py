"""Health, version and numbers of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest

from footplate_api.database import Database, ReadSession
from footplate_api.errors import DatabaseUnavailable
from footplate_api.metrics import repository as metrics
from footplate_api.observation import MirrorHealth
from footplate_api.served import Served
from footplate_api.system import gauges, ranking, repository
from footplate_api.system.gauges import Gauged, Shown, Written
from footplate_api.system.numbers import numbers
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


@dataclass(frozen=True)
class Found:
    """What a scrape found in the database."""

    runs: Mapping[str, Gauged | Written]  # by uid, in their order; Written where nothing has changed
    phases: Mapping[str | None, int]
    left_out: int


async def found(session: ReadSession, served: Served, now: datetime, kept: Mapping[str, Written]) -> Found:
    """The runs that have gauges, by rank and youngest first; and how many there are in all."""
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
    """Each run as it is kept, or where something of it changed since, as it is now."""
    uids = [run.uid for run in standing]
    places = await metrics.newest_places(session, uids)
    given_up = await metrics.given_up(session, uids)
    fingerprints = {
        run.uid: gauges.Fingerprint(run.resource_version, places.get(run.uid), given_up.get(run.uid, (0, 0)))
        for run in standing
    }
    same = {uid: kept[uid] for uid in uids if uid in kept and kept[uid].fingerprint == fingerprints[uid]}
    changed = [uid for uid in uids if uid not in same]
    statuses = await repository.statuses(session, changed)
    rows = await metrics.rows_at(session, {uid: places[uid] for uid in changed if uid in places})
    return {
        run.uid: same.get(run.uid)
        or Gauged(
            fingerprints[run.uid],
            run.namespace,
            run.name,
            run.phase,
            run.step,
            run.loss,
            numbers(statuses.get(run.uid, {})),
            rows.get(run.uid),
        )
        for run in standing
    }


class Scrapes:
    """Answers Prometheus; keeps the lines of each run, so that the next scrape reads only what changed."""

    def __init__(self, database: Database, registry: CollectorRegistry, served: Served, replica: str) -> None:
        self._database, self._registry, self._served, self._replica = database, registry, served, replica
        self._kept: Mapping[str, Written] = {}  # by the run's uid

    async def text(self, now: datetime) -> bytes:
        """The process's instruments and, on the replica that exports them, the runs' gauges.

        Without the database only the former: an outage is when they are wanted most. The text is made
        in a thread: with a thousand runs it is two megabytes, and others are served meanwhile.
        """
        read: Found | None = None
        with suppress(DatabaseUnavailable):
            async with self._database.read() as session:
                if await repository.exports(session, self._replica):
                    read = await found(session, self._served, now, self._kept)
        return await asyncio.to_thread(self._text, read)

    def _text(self, read: Found | None) -> bytes:
        self._kept = lines = {
            uid: run if isinstance(run, Written) else gauges.written(run)
            for uid, run in (read.runs if read is not None else {}).items()
        }
        shown = None if read is None else Shown(list(lines.values()), read.phases, read.left_out)
        return generate_latest(self._registry) + gauges.exposition(shown).encode()
