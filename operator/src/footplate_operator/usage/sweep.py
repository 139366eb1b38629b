"""Periodic sweep of all UsageRecords, for owners and Nodes whose deletion nobody saw.

Completed records are for the API to fetch, which deletes them. Where it does not, they are deleted after
a while.

There may be tens of thousands of records, of up to a quarter of a megabyte. They are read page by page, and
only names and uids are retained of each: the actions follow once all have been read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from footplate_contracts.logs import log_fields
from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL
from footplate_contracts.v1alpha1.usagerecord import UsageRecordSpec
from footplate_ledger.conversion import format_time, parse_time
from footplate_ledger.usage import Owner
from footplate_operator.errors import ClusterError, NotFound, RequestForbidden
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import Json
from footplate_operator.scope import Scope
from footplate_operator.usage.tracker import LOOK_SECONDS, UNSEEN_SECONDS, UsageTracker
from footplate_operator.usage.writes import COMPLETED_SINCE, USAGE_RECORD, build_completed_patch

FIRST_SECONDS: Final = 60  # all owners, pods and Nodes have been told of by then
SWEEP_SECONDS: Final = 3600  # what goes while this replica leads is told
RECORDS_A_PAGE: Final = 10  # of 256 pods each they keep the event loop for some 50 ms
MOST_ASKED: Final = 1000  # owners that a sweep asks about, of whom nothing was told for long
MOST_FAILURES: Final = 10  # of one sweep: beyond that it is the API server's trouble, not that of an object
_OURS: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Found:
    """The data of all records that a sweep needs."""

    needed: set[str] = field(default_factory=set)  # uids of Nodes of owners that are there
    names: dict[str, str] = field(default_factory=dict)  # of Nodes that have a record, by uid
    unsaid: list[str] = field(default_factory=list)  # names of completed records without a time
    late: list[tuple[str, str]] = field(default_factory=list)  # name and uid of those that nobody took
    elsewhere: list[tuple[str, str]] = field(default_factory=list)  # of these, those of other scopes
    quiet: dict[str, Owner] = field(default_factory=dict)  # of whom nothing was told for long, by uid


@dataclass(eq=False)
class _Failures:
    """Error limit: a few refused objects do not stop a sweep."""

    count: int = 0

    async def over(self, work: Awaitable[None]) -> None:
        """Await `work`; raises its ClusterError only after too many."""
        try:
            await work
        except ClusterError as error:
            self.count += 1
            if self.count > MOST_FAILURES:
                raise
            _log.warning("a usage object is left for the next sweep", extra=log_fields(error=error))


@dataclass(eq=False)
class Sweeper:
    """Sweeper of all records; completed ones that the API has not fetched are deleted after `kept_for`.

    Records of runs outside our `scope` belong to another installation, unless nothing reports any longer that
    their pods run.
    """

    cluster: Cluster
    keeper: UsageTracker
    kept_for: timedelta
    scope: Scope = field(default_factory=Scope)
    _unreadable: set[str] = field(default_factory=set)  # names of records that the log has named

    async def run(self) -> None:
        """Track usage forever; raises LeadershipLost."""
        began = self.keeper.second()
        due = began + FIRST_SECONDS
        while True:
            if self.keeper.second() - began >= FIRST_SECONDS:
                self.keeper.track_orphans()
            await self.keeper.write_due()
            if self.keeper.second() >= due:
                due = self.keeper.second() + SWEEP_SECONDS
                try:
                    await self.sweep()
                except ClusterError as error:
                    due = self.keeper.second() + FIRST_SECONDS
                    _log.warning("usage records cannot be checked", extra=log_fields(error=error))
            await asyncio.sleep(LOOK_SECONDS)

    async def sweep(self) -> None:
        """Look at all records once; raises ClusterError."""
        found, failures = _Found(), _Failures()
        broken_off: ClusterError | None = None
        try:
            async for page in self.cluster.pages(USAGE_RECORD, "", labels=_OURS, size=RECORDS_A_PAGE):
                while page:
                    self._look_at(page.pop(), found)
                    await asyncio.sleep(0)  # one with hundreds of pods takes milliseconds to read
        except ClusterError as error:
            broken_off = error
        for name, uid in found.late:
            await failures.over(self.cluster.delete(USAGE_RECORD, "", name, uid))
        for name, uid in found.elsewhere:
            await failures.over(self._take_away(name, uid))
        for name in found.unsaid:
            await failures.over(self._mark_completed(name))
        if broken_off is not None:
            raise broken_off  # the next list has the fewer records; what follows needs a whole one
        found.needed |= {pod.node for kept in self.keeper.kept.values() for pod in kept.records.pods.values()}
        for uid in await self.keeper.nodes.list_deletable(found.names, found.needed):
            await failures.over(self._mark_completed(f"node-{uid}"))
        for owner in found.quiet.values():
            await failures.over(self.keeper.check_owner(owner))

    def _look_at(self, body: Json, found: _Found) -> None:
        try:
            completed_for = self._completed_for(body)
            record = UsageRecordSpec.from_any_release(body.get("spec") or {})
        except ValueError as error:
            self._say_unreadable(body, error)
            return
        metadata = body["metadata"]
        ours = record.owner is None or record.owner.namespace in self.scope
        if record.completed:
            if completed_for is None and ours:
                found.unsaid.append(metadata["name"])
            elif completed_for is not None and completed_for >= self.kept_for.total_seconds():
                (found.late if ours else found.elsewhere).append((metadata["name"], metadata["uid"]))
        elif not ours and self._is_told_of(record):
            return
        elif record.owner is not None:
            found.needed |= {pod.node for pod in record.pods.values()}
            is_open = any(pod.end is None for pod in record.pods.values())
            owner = Owner(**record.owner.to_json())
            self.keeper.track_recorded(owner, is_open)
            if len(found.quiet) < MOST_ASKED and self.keeper.is_stale(owner):
                found.quiet[owner.uid] = owner
        else:
            found.names |= {uid: node.name for uid, node in record.nodes.items()}

    def _is_told_of(self, record: UsageRecordSpec) -> bool:
        """Return whether an open pod of the record was reported within a day."""
        seen = (
            parse_time(pod.seen) for pod in record.pods.values() if pod.end is None and pod.seen is not None
        )
        return self.keeper.second() - max(seen, default=0) < UNSEEN_SECONDS

    def _completed_for(self, body: Json) -> int | None:
        """Return the seconds since the record was marked as completed; None without a time."""
        since = (body["metadata"].get("annotations") or {}).get(COMPLETED_SINCE)
        return None if since is None else self.keeper.second() - parse_time(since)

    def _say_unreadable(self, body: Json, error: ValueError) -> None:
        name = body["metadata"]["name"]
        level = logging.DEBUG if name in self._unreadable else logging.WARNING
        self._unreadable.add(name)
        _log.log(level, "skipping a record that cannot be read", extra=log_fields(name=name, error=error))

    async def _take_away(self, name: str, uid: str) -> None:
        with suppress(RequestForbidden):  # it is another installation's, which lets nobody else
            await self.cluster.delete(USAGE_RECORD, "", name, uid)

    async def _mark_completed(self, name: str) -> None:
        with suppress(NotFound):  # somebody has taken it meanwhile
            await self.cluster.merge(
                USAGE_RECORD, "", name, build_completed_patch(format_time(self.keeper.second()))
            )
