"""Health, version and numbers of the process."""

from __future__ import annotations

import asyncio
from contextlib import suppress
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
from footplate_api.system.gauges import Gauged, Shown
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


async def shown(session: ReadSession, served: Served, now: datetime) -> Shown:
    """The runs that have gauges, by rank and youngest first; and how many there are in all."""
    phases = await repository.phases(session, served)
    found: list[repository.Standing] = []
    for among in ranking.ranks(phases):
        if len(found) < GAUGED_RUNS:
            found += await repository.youngest(session, served, among, GAUGED_RUNS - len(found))
    room = GAUGED_RUNS - len(found)
    lately, ended = await repository.ended(session, served, now - GAUGED_AFTER_END, room)
    uids = [run.uid for run in (*found, *lately)]
    newest = await metrics.newest_rows(session, uids)
    given_up = await metrics.given_up(session, uids)
    live = sum(count for phase, count in phases.items() if phase not in ranking.ENDED)
    runs = [
        Gauged(
            run.namespace,
            run.name,
            run.phase,
            run.step,
            run.loss,
            newest.get(run.uid),
            given_up.get(run.uid, (0, 0)),
        )
        for run in (*found, *lately)
    ]
    return Shown(runs, phases, max(live + ended - len(runs), 0))


async def exposition(
    database: Database, registry: CollectorRegistry, served: Served, replica: str, now: datetime
) -> bytes:
    """The process's instruments and, on the replica that exports them, the runs' gauges, as text.

    Without the database only the former: an outage is when they are wanted most. The text is made
    in a thread: with a thousand runs it is a megabyte, and others are served meanwhile.
    """
    found: Shown | None = None
    with suppress(DatabaseUnavailable):
        async with database.read() as session:
            if await repository.exports(session, replica):
                found = await shown(session, served, now)
    return await asyncio.to_thread(_text, registry, found)


def _text(registry: CollectorRegistry, found: Shown | None) -> bytes:
    return generate_latest(registry) + gauges.exposition(found).encode()
