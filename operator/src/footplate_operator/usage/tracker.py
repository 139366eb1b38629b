"""Tracks the usage of pods: in memory while it may change, and in UsageRecords for billing.

The inputs of a decision are recorded before it is applied, so that no pod is deleted before its end is
written. But nothing waits for a record: writes that are refused, or take long, are retried later, and
training goes on.

Pods outlive their owners, and operators. So deleted owners are tracked until their pods are gone, and the
operator gets recorded pods that nothing shows any more from the API server: one that is gone ended by the
last evidence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from footplate_contracts.logs import log_fields
from footplate_contracts.names import Role
from footplate_ledger.conversion import format_time
from footplate_ledger.intervals import unix_second
from footplate_ledger.usage import MeasuredEnergy, Owner
from footplate_operator.errors import AlreadyExists, NotFound, RequestForbidden
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import POD, Json, Kind
from footplate_operator.runtime.throttle import jitter
from footplate_operator.usage.errors import record_errors
from footplate_operator.usage.node_lookup import NodeLookup
from footplate_operator.usage.node_tracker import NodeUsageTracker
from footplate_operator.usage.objects import get_by_uid, get_record, write_record
from footplate_operator.usage.orphans import Orphans, find_owner_problem
from footplate_operator.usage.owner_records import OwnerRecords
from footplate_operator.usage.owner_usage import OwnerUsage
from footplate_operator.usage.pod_observation import PodObservation, observe_pod
from footplate_operator.usage.pods import PodProfile, end_by_evidence, update_usage
from footplate_operator.usage.records import OwnerMismatch
from footplate_operator.usage.writes import USAGE_RECORD, build_completed_patch

LEAST_SECONDS: Final = 60.0  # between two notes that pods of one owner go on
OWNERS_PER_SECOND: Final = 10.0
LOOK_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 2.0  # that a decision waits for the API server
ASK_SECONDS: Final = 5  # between two questions about a pod that went, or lost its label
ASK_AGAIN_SECONDS: Final = 600  # and about any other that nobody shows
UNSEEN_SECONDS: Final = 86_400  # after which pods that nobody may see are over
UNTOLD_SECONDS: Final = 86_400  # after which it is asked whether an owner that has ended is there still
_ROLES: Final = frozenset(Role)
_GAP: Final = 1  # numbers of records that are passed over, as somebody may have deleted one
_AT_ONCE: Final = 8
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class UsageTracker:
    """Usage tracker of all owners. `now` is a clock in UTC, `kinds` the owners' kinds by name."""

    cluster: Cluster
    now: Callable[[], datetime]
    nodes: NodeUsageTracker
    kinds: Mapping[str, Kind]
    answer_seconds: float = ANSWER_SECONDS
    kept: dict[str, OwnerRecords] = field(default_factory=dict)  # by uid of the owner
    there: dict[str, Owner] = field(default_factory=dict)  # as far as was told, by uid
    _told: dict[str, int] = field(default_factory=dict)  # uid of an owner that is there -> since when
    _places: NodeLookup = field(init=False)
    _strays: Orphans = field(init=False)

    def __post_init__(self) -> None:
        self._places = NodeLookup(self.nodes, self.kept, self.second)
        self._strays = Orphans(self.kinds.keys(), self.there)

    # -- what is told ------------------------------------------------------------------

    def observe_pod(self, owner: Owner, pod: PodObservation, gone: bool) -> None:
        """Store a version of a pod; `gone`: it was deleted, or lost our label."""
        if pod.role not in _ROLES:
            return
        kept = self._strays.find_or_create(owner, self.kept.get(owner.uid))
        if kept is None:
            return
        kept.heard[pod.uid] = pod
        if gone:
            kept.missing[pod.uid] = self.second()
        else:
            kept.missing.pop(pod.uid, None)

    def observe_owner(self, owner: Owner, gone: bool) -> None:
        """Record that an owner exists; a deleted one is tracked until its pods are gone."""
        if not gone:
            self.there[owner.uid], self._told[owner.uid] = owner, self.second()
            return
        self._told.pop(owner.uid, None)
        self.there.pop(owner.uid, None)
        self.track_owner(owner)

    def forget(self, uid: str) -> None:
        """Record that no controller decides about the owner any more; its pods may still exist."""
        if uid in self.kept:
            self.kept[uid].followed = False
            self.there.pop(uid, None)  # it may be gone, and no watch have said so
            self._told.pop(uid, None)

    def track_owner(self, owner: Owner) -> OwnerRecords:
        """Track an owner about which no controller decides."""
        self._keep(owner).followed = False
        return self.kept[owner.uid]

    def track_orphans(self) -> None:
        """Track the owners that pods named and no watch has shown: they are gone, their pods may not be."""
        for owner in self._strays.list_gone_owners(self.kept):
            self.track_owner(owner)

    def track_recorded(self, owner: Owner, is_open: bool) -> None:
        """Track an owner from records, unless it is tracked; `is_open`: a pod of it may still run."""
        if owner.uid in self.kept or not (is_open or owner.uid not in self.there):
            return
        if said := find_owner_problem(owner, self.kinds):
            self._strays.refuse(owner, said)
        else:
            self.track_owner(owner)

    def is_stale(self, owner: Owner) -> bool:
        """Return whether the owner is untracked and was last reported more than a day ago."""
        told = self._told.get(owner.uid, 0)
        is_there = self.there.get(owner.uid) == owner
        return is_there and owner.uid not in self.kept and self.second() - told >= UNTOLD_SECONDS

    async def check_owner(self, owner: Owner) -> None:
        """Get a reported owner and record whether it still exists; raises ClusterError."""
        gone = False
        with suppress(RequestForbidden):  # as it was known
            body = await get_by_uid(
                self.cluster, self.kinds[owner.kind], owner.namespace, owner.name, owner.uid
            )
            gone = body is None
        self.observe_owner(owner, gone)

    async def record_pods(
        self,
        owner: Owner,
        terms: PodProfile,
        pods: Sequence[PodObservation],
        attempt: Callable[[int], int],
        measured: Mapping[str, MeasuredEnergy],
    ) -> OwnerUsage | None:
        """Record all pods of an owner as seen; return its usage, None until the records were read.

        Args:
            terms: the profile from which its pods are made.
            attempt: returns the number of the attempt for a pod that began in a second.
            measured: by uid of the pod; only pods with measurements.
        """
        kept = self._keep(owner)
        kept.attempt, kept.followed = attempt, True
        kept.terms = terms if terms.profile is not None else kept.terms
        if self._seconds() >= kept.retry:
            with self._failures_of(kept):
                async with asyncio.timeout(self.answer_seconds), kept.lock:
                    await self._load(kept)
                    await self._places.search(kept, pods)
                    self._take(kept, pods, measured)
                    await self._ask(kept, {pod.uid for pod in pods})
                    await self._write(kept)
                    kept.failures = 0
        if not kept.loaded or not kept.placed:
            return None
        self._take(kept, pods, measured)
        return self._places.usage(kept)

    # -- what goes on by itself ------------------------------------------------------------

    async def write_due(self) -> None:
        """Write what is due, and check owners about which no controller decides; raises LeadershipLost."""
        gate, now = asyncio.Semaphore(_AT_ONCE), self._seconds()
        period = max(LEAST_SECONDS, len(self.kept) / OWNERS_PER_SECOND)

        async def look(kept: OwnerRecords, everything: bool) -> None:
            async with gate:
                await self._tend(kept, everything)

        due = []
        for uid, kept in self.kept.items():
            if kept.followed:
                kept.alive = self.second()
            everything = now - kept.wrote >= period * jitter(uid)
            if now >= kept.retry and (everything or not kept.followed or kept.failures or kept.places):
                due.append(look(kept, everything))
        await asyncio.gather(*due)
        await self.nodes.write_due()

    # -- what is known ---------------------------------------------------------------------

    def second(self) -> int:
        """Return the current time in whole seconds since 1970."""
        return unix_second(self.now())

    # -- particulars -----------------------------------------------------------------------

    def _seconds(self) -> float:
        return self.now().timestamp()

    def _failures_of(self, kept: OwnerRecords) -> AbstractContextManager[None]:
        return record_errors(lambda error, expected: kept.record_failure(self._seconds(), error, expected))

    def _keep(self, owner: Owner) -> OwnerRecords:
        kept = self.kept.get(owner.uid)
        if kept is not None and kept.owner != owner:
            self._drop(kept)  # it was none: who is told of with a uid has it
            kept = None
        if kept is None:
            kept = self.kept[owner.uid] = self._strays.pop(owner)
            kept.wrote = self._seconds()
        return kept

    async def _load(self, kept: OwnerRecords) -> None:
        """Read the owner's records; a deleted one does not hide later ones. Raises ClusterError."""
        number = missing = 0
        while not kept.loaded:
            try:
                self._read(kept, number, await get_record(self.cluster, kept.records.name(number)))
                missing = 0
            except NotFound:
                missing += 1
                if missing > _GAP:
                    kept.mark_loaded()
            number += 1

    def _read(self, kept: OwnerRecords, number: int, body: Json) -> None:
        try:
            kept.records.read(number, body.get("spec", {}))
        except OwnerMismatch:
            raise
        except ValueError as error:
            _log.warning(
                "a record cannot be read", extra=log_fields(name=body["metadata"]["name"], error=error)
            )
        self._places.add_pods(kept.records.pods.values())

    def _take(
        self, kept: OwnerRecords, pods: Iterable[PodObservation], measured: Mapping[str, MeasuredEnergy]
    ) -> None:
        kept.update_pods(pods, self.second())
        kept.measure(measured)

    async def _ask(self, kept: OwnerRecords, shown: Collection[str]) -> None:
        """Get open pods that are not `shown`, and record those that are gone; raises ClusterError."""
        now = self.second()
        for pod in kept.records.list_open():
            often = ASK_SECONDS if pod.uid in kept.missing else ASK_AGAIN_SECONDS
            if pod.uid in shown or now - kept.asked.get(pod.uid, 0) < often:
                continue
            kept.asked[pod.uid] = now
            body = await get_by_uid(self.cluster, POD, kept.owner.namespace, pod.name, pod.uid)
            if body is None:
                kept.records.put(end_by_evidence(pod, kept.missing.get(pod.uid, pod.end.until)))
            else:
                kept.missing.pop(pod.uid, None)
                kept.records.put(update_usage(pod, observe_pod(body, pod.role, pod.sku.profile), now))

    async def _tend(self, kept: OwnerRecords, everything: bool) -> None:
        with self._failures_of(kept):
            try:
                async with kept.lock:
                    await self._load(kept)
                    await self._places.read(kept, self._places.unread(kept, ()))
                    self._places.begin(kept)
                    kept.placed = True
                    kept.merge_events(self.second())
                    if not kept.followed:
                        await self._look_after(kept)
                    for uid in kept.shown if everything else ():
                        kept.extend_evidence(uid)
                    await self._write(kept, everything)
                    kept.failures = 0
                    if not kept.followed and not kept.records.list_open():
                        await self._let_go(kept)
            except OwnerMismatch as error:
                self._drop(kept)  # a run that is gone has the uid
                self._strays.refuse(kept.owner, str(error))

    async def _look_after(self, kept: OwnerRecords) -> None:
        """Check an owner without a controller, and its pods, on the API server."""
        kept.shown = frozenset()
        if not kept.gone and self.there.get(kept.owner.uid) != kept.owner:
            try:
                kind, owner = self.kinds[kept.owner.kind], kept.owner
                kept.gone = (
                    await get_by_uid(self.cluster, kind, owner.namespace, owner.name, owner.uid) is None
                )
            except RequestForbidden:
                await self._set_aside(kept)
                raise
            if not kept.gone:
                self.observe_owner(kept.owner, gone=False)
        await self._ask(kept, ())

    async def _set_aside(self, kept: OwnerRecords) -> None:
        """Drop an owner whose namespace this installation may not read; a sweep retries.

        Where another installation tracks it, that reports now and then that its pods still run. Else they
        count as ended a day after the last report.
        """
        for pod in kept.records.list_open():
            if self.second() - pod.end.until >= UNSEEN_SECONDS:
                kept.records.put(end_by_evidence(pod, pod.end.until))
        await self._write(kept)
        if not kept.followed:  # seen meanwhile
            self._drop(kept)

    async def _write(self, kept: OwnerRecords, everything: bool = False) -> None:
        """Write the news; raises ClusterError."""
        for number, write in kept.records.build_writes(everything):
            try:
                body = await write_record(self.cluster, write)
            except NotFound:
                kept.records.mark_lost(number)
                raise
            except AlreadyExists:  # the answer of an earlier write was lost
                self._read(kept, number, await get_record(self.cluster, write.name))
                raise
            kept.records.mark_written(number, write, body.get("spec", {}))
        if everything:
            kept.wrote = self._seconds()

    async def _let_go(self, kept: OwnerRecords) -> None:
        """Drop an owner whose pods all ended and are written; mark a deleted owner's records as over.

        The last record is the first to be marked, so that the others are still found by counting.
        """
        if kept.gone:
            for number in reversed(kept.records.numbers):
                said = build_completed_patch(format_time(self.second()))
                with suppress(NotFound):
                    await self.cluster.merge(USAGE_RECORD, "", kept.records.name(number), said)
        if kept.followed or kept.heard:
            return  # somebody came back to it meanwhile
        self._drop(kept)

    def _drop(self, kept: OwnerRecords) -> None:
        if self.kept.get(kept.owner.uid) is kept:
            del self.kept[kept.owner.uid]
        for task in kept.searches:
            task.cancel()
        self._places.drop(kept.records.pods.values())
