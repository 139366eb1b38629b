"""Keeps the table of runs like the runs in Kubernetes, and remembers those that are gone.

A list gives the whole state, a watch what changes after it. Watches may lose events
(an expired version, a restart of the API server), so everything is listed again after
each trouble and every few minutes; what a list lacks is deleted. Rows are guarded by
their resource version: however late an event comes, it never replaces a newer row.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from footplate_api.database import Database
from footplate_api.errors import ApiError, ListExpired
from footplate_api.observation import Metrics, MirrorHealth
from footplate_api.ports import Cluster, EventType, Manifest, WatchEvent
from footplate_api.runs import record, repository
from footplate_contracts.backoff import backoff

RELIST_SECONDS: Final = 600.0
FIRST_RETRY_SECONDS: Final = 0.5
LONGEST_RETRY_SECONDS: Final = 15.0
PAUSE_SECONDS: Final = 0.1  # between watches, should a proxy end each at once

log = logging.getLogger(__name__)


@dataclass
class Mirror:
    """One loop for the life of the process; any number of them may serve one database."""

    cluster: Cluster
    database: Database
    metrics: Metrics
    health: MirrorHealth
    now: Callable[[], datetime]
    chance: Callable[[], float] = random.random
    failures: int = 0  # since a watch last worked

    async def run(self) -> None:
        """Mirrors until cancelled; trouble with Kubernetes or the database is waited out."""
        while True:
            try:
                await self._follow(await self.list())
            except ListExpired as error:
                log.info("listing again: %s", error)
                await self._wait()
            except ApiError as error:
                self._trouble(error.detail)
                await self._wait()
            except Exception as error:  # the edge of the task: nobody would start it again
                log.exception("the mirror stumbled")
                self._trouble(f"The mirror failed with {type(error).__name__}.")
                await self._wait()

    def _trouble(self, detail: str) -> None:
        log.warning("%s", detail)
        self.health.failure = detail
        self.metrics.mirror_failures.inc()

    async def _wait(self) -> None:
        self.failures += 1
        await asyncio.sleep(retry_delay(self.failures, self.chance()))

    async def list(self) -> str:
        """Takes over all runs that exist; returns the version from which to watch."""
        started, version = self.now(), ""
        present: set[str] = set()
        token: str | None = None
        while True:
            page = await self.cluster.list_runs(token)
            version = version or page.resource_version  # of all pages: they show one moment
            rows = decoded(page.manifests, self.now())
            present.update(row["uid"] for row in rows)
            async with self.database.write() as session:
                await repository.store(session, rows)
            token = page.next_token
            if token is None:
                break
        async with self.database.write() as session:
            known = await repository.live_uids(session, up_to=int(version), seen_before=started)
            await repository.mark_deleted(session, known - present, self.now())
        self._heard()
        return version

    async def _follow(self, version: str) -> None:
        relist = self.now().timestamp() + RELIST_SECONDS
        while self.now().timestamp() < relist:
            async for events in self.cluster.watch_runs(version):
                await self.apply(events)
                version = events[-1].resource_version
                self.failures = 0
            self.failures = 0
            self._heard()
            await asyncio.sleep(PAUSE_SECONDS)

    async def apply(self, events: Sequence[WatchEvent]) -> None:
        """Stores the last event of each run in one transaction."""
        rows = changes(events, self.now())
        if rows:
            async with self.database.write() as session:
                await repository.store(session, rows)
        self.metrics.mirror_events.inc(len(rows))
        self._heard()

    def _heard(self) -> None:
        self.health.failure = None
        self.metrics.mirror_last_event.set(self.now().timestamp())


def decoded(manifests: Iterable[Manifest], seen_at: datetime) -> list[dict[str, Any]]:
    """Rows of those manifests that can be read; the others are logged and left out."""
    rows = []
    for manifest in manifests:
        try:
            rows.append(record.row(manifest, seen_at))
        except ValueError as error:
            log.error("skipped an object: %s", error)
    return rows


def changes(events: Iterable[WatchEvent], seen_at: datetime) -> list[dict[str, Any]]:
    """One row for each run that `events` tell of, as its last event leaves it."""
    last = {
        event.manifest["metadata"].get("uid"): event
        for event in events
        if event.type is not EventType.BOOKMARK
    }
    rows = []
    for event in last.values():
        deleted_at = seen_at if event.type is EventType.DELETED else None
        rows += [{**row, "deleted_at": deleted_at} for row in decoded([event.manifest], seen_at)]
    return rows


def retry_delay(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row; `chance` in [0, 1) spreads replicas."""
    return backoff(
        failures, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS, jitter=(0.5, 1.0), chance=chance
    )
