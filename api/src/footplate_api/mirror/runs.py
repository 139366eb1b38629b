"""Reflector of TrainingRuns, which stores their rows, and retains those of deleted runs.

How two mirrors write one table, without comparing clocks
---------------------------------------------------------
All TrainingRuns of a cluster share one sequence of resource versions (etcd's revisions), so
versions order states, whichever replica received them. Each row has the version that it shows.

*An event or a creation* replaces rows of smaller versions only: however late it comes,
it never replaces a newer row. It never restores a deleted run; a uid is used once.

*A list* is read whole, at one version L (its later pages continue at L). It shows every
run as it is at L, so of rows of versions up to L it is the truth:

- A run that it shows in another version than such a row's is stored from the list. A
  smaller one there would be no later state of an ordinary cluster: nothing lies between
  the version in which L shows it and L itself.
- A live row that it lacks is of a deleted run; the row gets version L. So neither an older list
  that another replica still reads, nor an event from before the deletion on a lagging watch,
  restores the run. The deletion event, should a lagging watch still bring it, is stored
  all the same: it has the time, and the list had to guess.
- A row of a version above L was written after L: by another replica's watch, or by a POST
  between two pages. The list has no information on it; the watch from L will.

So the watch from L may begin with the second page: a list of 30,000 runs takes seconds, and no run
is behind for that long.

Most items of a list are stored already. So the mirror lists metadata, which have the versions, and requests
one by one the runs in another version than their rows. The response is the run at L or later: it replaces
rows of versions up to L, as an item of the list does. A run that is deleted by then, or replaced by another
one of its name, is left to the watch. Where too many changed, as at the first start, the mirror lists them
whole.

A POST that is answered, deleted and listed before its own transaction begins leaves a row
that is live until the next list.

*A cluster that was restored from a backup* counts from a smaller version, and the rows of
the lost time would shadow new ones. Before it requests a list, the mirror reads
the newest version that any replica had seen, N; a list that is requested
after that has L >= N, however late its response comes and whatever others write meanwhile.
L < N therefore means one thing: the cluster was restored. Lists are requested without a
resource version for that reason, periodic ones too. What older API servers answer from
their watch cache has no pages, so hundreds of megabytes come at once; and with
resourceVersion=0 it may be behind N (with resourceVersionMatch=NotOlderThan at N it is not,
but a cluster that was restored then answers with a time-out). Since Kubernetes 1.31 the
consistent list in pages of 500 comes from the watch cache as well, at no cost to etcd.

The replica that finds the cluster restored begins a new timeline: it resets the versions of all rows that may
return, sets N to L, and stores the list as usual. Every transaction of a mirror names the timeline in which
its list or watch began, and writes nothing after the end of that timeline: it lists again. They all lock the
row of `installation` first, so none is half-way when the timeline ends. A restore that no list notices, as
the cluster has passed N before the next list, needs none of this: all rows are of versions up to L.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, TypeAlias

from footplate_api.attempts import record as attempt_record
from footplate_api.attempts import repository as attempts
from footplate_api.coordinators import record as coordinator_record
from footplate_api.coordinators import repository as coordinators
from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.db.database import PAGE_SECONDS, WORK_SECONDS, WriteSession
from footplate_api.errors import ListExpired
from footplate_api.installation import repository as installation
from footplate_api.instruments import RUNS
from footplate_api.kubernetes.client import EventType, ListPage, Manifest, WatchEvent, if_found
from footplate_api.lineage import record as chain_record
from footplate_api.lineage import repository as chains
from footplate_api.metrics import repository as metric_rows
from footplate_api.mirror.reflector import Reflector
from footplate_api.registry import end_time, repository, run_rows
from footplate_api.serialization import tolerant_json

ROWS_A_TRANSACTION: Final = 100  # whoever else writes runs waits for so many at most
MOST_ASKED_FOR: Final = 50  # of a page, one by one

Asking: TypeAlias = Callable[[str | None], Awaitable[ListPage]]
Completing: TypeAlias = Callable[[Sequence[Manifest]], Awaitable[Sequence[Manifest] | None]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MirroredRows:
    """Rows from Kubernetes: each run in its last state, all else from any of its states."""

    runs: Sequence[Mapping[str, Any]] = ()
    attempts: Sequence[Mapping[str, Any]] = ()
    coordinators: Sequence[CoordinatorPod] = ()
    references: Sequence[Mapping[str, Any]] = ()


@dataclass
class RunMirror(Reflector):
    """Reflector of TrainingRuns: all of them, or those of one namespace, to which its lists are limited."""

    kind: ClassVar[str] = RUNS

    timeline: int | None = field(default=None, init=False)  # of the last list; None: none was read

    def watch(self, version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self.cluster.watch_runs(version)

    def record_contact(self) -> None:
        super().record_contact()
        self.health.record_run_contact(self.place, self.now())
        if self.health.heard_at is not None:
            self.metrics.mirror_last_event.set(self.health.heard_at.timestamp())

    async def list(self) -> str:
        version = await self._read(self.cluster.list_versions, self._changed)
        if version is None:
            version = await self._read(self.cluster.list_runs, self._as_listed)
        self.record_contact()
        return str(version)

    async def _read(self, ask: Asking, complete: Completing) -> int | None:
        """Store a list, page by page; return its version, or None where `complete` asks for a full list."""
        async with self.database.read(PAGE_SECONDS) as session:
            before = await installation.mirror_position(session)
        page = await ask(None)
        version = int(page.resource_version)
        set_back = version < before.newest_version
        if self.is_watching and (set_back or before.timeline != self.timeline):
            raise ListExpired("the cluster was reset to an older state after the watch began")
        self.timeline = before.timeline
        if set_back:
            await self._set_back(before, version)
        self.allow_watch(page.resource_version)
        present: set[str] = set()
        async with aclosing(pages(ask, page)) as rest:
            async for page in rest:
                manifests = await complete(await self._news(page, version))
                if manifests is None:
                    return None
                await self._take(manifests, version)
                present |= versions(page.manifests).keys()
        await self._miss(present, version)
        return version

    async def apply(self, events: Sequence[WatchEvent]) -> None:
        """Store the last event of each run, and the attempts of every event, in one transaction."""
        told = await asyncio.to_thread(changes, events, self.now())
        if told.runs:
            newest = max(row["resource_version"] for row in told.runs)
            await self._store(told, newest)
        self.metrics.mirror_events.inc(len(told.runs))

    async def _set_back(self, before: installation.MirrorPosition, version: int) -> None:
        async with self.database.write(WORK_SECONDS) as session:  # of all there ever were
            if not await installation.begin_timeline(session, before.timeline, version):
                raise ListExpired("another replica found the cluster reset to an older state")
            await repository.reset_versions(session, version)
            await attempts.forget_versions(session, version)
        self.timeline = before.timeline + 1
        log.warning(
            "the cluster was reset from resource version %d to %d: storing its whole list",
            before.newest_version,
            version,
        )

    async def _reach(self, session: WriteSession, version: int) -> None:
        if not await installation.advance(session, version, self.timeline):
            raise ListExpired("the cluster was reset to an older state after the last list")

    async def _news(self, page: ListPage, version: int) -> Sequence[Manifest]:
        """Return the items of a page that the table does not show in the list's version."""
        async with self.database.read(PAGE_SECONDS) as session:
            known = await repository.get_stored_states(session, versions(page.manifests).keys())
        return [manifest for manifest in page.manifests if is_news(manifest, known, version)]

    async def _changed(self, news: Sequence[Manifest]) -> Sequence[Manifest] | None:
        """Return the current runs for these metadata, without deleted ones; None if there are too many."""
        if len(news) > MOST_ASKED_FOR:
            return None
        found = await asyncio.gather(*(self._asked_for(manifest["metadata"]) for manifest in news))
        return [manifest for manifest in found if manifest is not None]

    async def _asked_for(self, about: Mapping[str, Any]) -> Manifest | None:
        found = await if_found(self.cluster.get_run(about["namespace"], about["name"]))
        return found if found is not None and found["metadata"]["uid"] == about["uid"] else None

    async def _as_listed(self, news: Sequence[Manifest]) -> Sequence[Manifest]:
        return news

    async def _take(self, news: Sequence[Manifest], version: int) -> None:
        """Store the changed items of a list of this version."""
        for start in range(0, len(news), ROWS_A_TRANSACTION):
            told = await asyncio.to_thread(decoded, news[start : start + ROWS_A_TRANSACTION], self.now())
            await self._store(told, version, listed=version)

    async def _store(self, told: MirroredRows, version: int, listed: int | None = None) -> None:
        async with self.database.write(PAGE_SECONDS) as session:
            await self._reach(session, version)
            await repository.store_runs(session, told.runs, listed)
            await attempts.store_attempts(session, told.attempts, listed)
            await chains.store_references(session, told.references)
            await coordinators.store_coordinators(session, told.coordinators)

    async def _miss(self, present: Collection[str], version: int) -> None:
        """Store the end of runs that a list of this version lacks."""
        gone = await self._missing(present, version)
        for start in range(0, max(len(gone), 1), ROWS_A_TRANSACTION):
            async with self.database.write(PAGE_SECONDS) as session:
                await self._reach(session, version)
                for uid in gone[start : start + ROWS_A_TRANSACTION]:
                    await mark_missing(session, uid, version, self.now())

    async def _missing(self, present: Collection[str], version: int) -> Sequence[str]:
        missing: list[str] = []
        after: repository.LiveRunKey | None = None
        while True:
            async with self.database.read(PAGE_SECONDS) as session:
                live = await repository.live(session, version, after, self.place)
            missing += [place.uid for place in live if place.uid not in present]
            if not live:
                return sorted(missing)
            after = live[-1]


async def pages(ask: Asking, page: ListPage) -> AsyncGenerator[ListPage, None]:
    """Yield `page` and all later ones; request the next one while the caller works on the one before."""
    while page.next_token is not None:
        asked = asyncio.ensure_future(ask(page.next_token))
        try:
            yield page
            page = await asked
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
    yield page


async def mark_missing(session: WriteSession, uid: str, version: int, noticed_at: datetime) -> None:
    """Mark a run as missing from a list, with its end as far as that is known."""
    run = await repository.by_uid(session, uid)
    if run is None:
        return
    last_row = tolerant_json.from_timestamp(await metric_rows.last_time(session, uid))
    known = end_time.RunEnd(run.ended_at, bool(run.end_estimated))
    end = end_time.end_of_missing(known, run.created_at, run.status, last_row, noticed_at)
    await repository.mark_gone(session, uid, end, noticed_at, version)


def versions(manifests: Iterable[Manifest]) -> dict[str, str]:
    """Return uid -> resource version of all manifests that have a uid."""
    metadata = (manifest.get("metadata") or {} for manifest in manifests)
    return {about["uid"]: about.get("resourceVersion", "") for about in metadata if "uid" in about}


def is_news(manifest: Manifest, known: Mapping[str, repository.StoredRunState], listed: int) -> bool:
    """Return whether a list of version `listed` has news of this run, compared with the table.

    It has news of a run in another version, or that the table shows as deleted, or not at all. It has none
    where the row is newer than the list.
    """
    metadata = manifest.get("metadata") or {}
    row = known.get(metadata.get("uid", ""))
    if row is not None and row.resource_version > listed:
        return False
    if row is None or str(row.resource_version) != metadata.get("resourceVersion"):
        return True
    return row.deleted


def decoded(manifests: Iterable[Manifest], seen_at: datetime) -> MirroredRows:
    """Return the rows of all readable manifests; log and skip the others."""
    rows, read = [], []
    for manifest in manifests:
        try:
            rows.append(run_rows.row(manifest, seen_at))
            read.append(manifest)
        except ValueError as error:
            log.error("skipped an object: %s", error)
    return _told(rows, read)


def changes(events: Iterable[WatchEvent], seen_at: datetime) -> MirroredRows:
    """Return one row for each run in `events`, after its last event, and all attempts."""
    last: dict[str, Mapping[str, Any]] = {}
    read = []
    for event in events:
        if event.type is EventType.BOOKMARK:
            continue
        try:
            row = _row(event, event.heard_at or seen_at)
        except ValueError as error:
            log.error("skipped an object: %s", error)
            continue
        last[row["uid"]] = row
        read.append(event.manifest)
    return _told(list(last.values()), read)


def _told(rows: Sequence[Mapping[str, Any]], read: Sequence[Manifest]) -> MirroredRows:
    return MirroredRows(
        rows, attempt_record.rows(read), coordinator_record.coordinators_of(read), chain_record.rows(read)
    )


def _row(event: WatchEvent, heard_at: datetime) -> dict[str, Any]:
    if event.type is EventType.DELETED:
        return run_rows.deleted(event.manifest, heard_at)
    return run_rows.row(event.manifest, heard_at)
