"""Reflector of UsageRecords, which stores their usage and deletes finished records.

A record reports usage of pods and Nodes, and all reports on one pod or Node are merged
(`footplate_ledger.usage`): any order, any repetition and any split of them gives the same rows. So nothing
depends on which replica sees which record, and a record that was deleted unseen changes nothing.

A finished record is deleted after its usage is committed, and only in that state: by its uid and version; all
other records are stored first, so that an API server that refuses or does not answer cannot delay them. A
finished record reports nothing more, but it stays for as long as its run does, for the operator computes the
run's cost from it. A record that cannot be read stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from footplate_api.db.database import PAGE_SECONDS
from footplate_api.errors import ApiError, ClusterRefused
from footplate_api.instruments import USAGE
from footplate_api.kubernetes.client import Manifest, Resource, if_found
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.mirror.objects import ObjectReflector
from footplate_api.registry import repository as runs
from footplate_api.serialization import tolerant_json
from footplate_api.usage import repository, usage_rows
from footplate_api.usage.usage_rows import UsageBatch

RUN: Final = "TrainingRun"
ROWS_A_TRANSACTION: Final = 256  # as many as one record may tell of: the loop puts them together
DELETED_AT_ONCE: Final = 8
OWNERS_AT_ONCE: Final = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FinishedRecord:
    """Finished record, as far as its deletion needs: there may be tens of thousands."""

    name: str
    uid: str
    version: str
    owner: Mapping[str, Any]  # empty: it is of Nodes

    @classmethod
    def of(cls, manifest: Manifest) -> FinishedRecord:
        about = manifest["metadata"]
        return cls(about["name"], about["uid"], about["resourceVersion"], _owner(manifest))


@dataclass
class UsageReflector(ObjectReflector):
    """Reflector of UsageRecords; another installation stores and deletes those of runs that it serves."""

    kind: ClassVar[str] = USAGE
    resource: ClassVar[Resource] = Resource.USAGE

    served: NamespaceScope = field(default_factory=NamespaceScope)
    unreadable: set[str] = field(default_factory=set, init=False)  # uids
    # By uid: not deleted yet.
    completed: dict[str, FinishedRecord] = field(default_factory=dict, init=False)

    async def store(self, manifests: Sequence[Manifest]) -> None:
        manifests = [manifest for manifest in manifests if self._is_ours(manifest)]
        read, unreadable = await self.parse(usage_rows.parse_record, manifests)
        here = {manifest["metadata"]["uid"] for manifest in manifests}
        self.unreadable = (self.unreadable - here) | unreadable
        for told in combine_batches(read, ROWS_A_TRANSACTION):
            await self._merge(told)

    async def _merge(self, told: UsageBatch) -> None:
        async with self.database.read(PAGE_SECONDS) as session:
            news = told.changes_from(await repository.get_stored(session, told))
        if news.size:  # else nobody has to wait for a write of nothing
            async with self.database.write(PAGE_SECONDS) as session:
                await repository.store_usage(session, news)

    async def remove(self, manifests: Iterable[Manifest]) -> None:
        await self.store(list(manifests))  # its last state may tell more than was heard before

    async def prune(self, names: Collection[str]) -> None:
        self.unreadable &= self.taken.keys()

    def on_stored(self, manifests: Sequence[Manifest]) -> None:
        completed = (FinishedRecord.of(manifest) for manifest in manifests if self._is_completed(manifest))
        self.completed.update((record.uid, record) for record in completed)

    async def clean_up(self) -> None:
        # The next list adds again what stays.
        completed, self.completed = list(self.completed.values()), {}
        if not completed:
            return
        turns = asyncio.Semaphore(DELETED_AT_ONCE)
        troubles: list[ApiError] = []

        async def take_away(record: FinishedRecord) -> None:
            async with turns:
                if troubles:  # the others would hear the same
                    return
                try:
                    if await self._is_gone(record, known):
                        await self._delete(record)
                except ApiError as error:
                    troubles.append(error)

        try:
            known = await self._known_runs(completed)
            await asyncio.gather(*map(take_away, completed))
        except ApiError as error:
            troubles.append(error)
        if troubles:
            log.warning("completed UsageRecords are not deleted yet: %s", troubles[0].detail)
            self.metrics.mirror_failures.inc()

    def _is_completed(self, manifest: Manifest) -> bool:
        uid = manifest["metadata"]["uid"]
        completed = (
            tolerant_json.mapping(manifest, "spec").get("completed") is True and uid not in self.unreadable
        )
        return completed and self._is_ours(manifest) and (bool(_owner(manifest)) or self.served.cluster)

    def _is_ours(self, manifest: Manifest) -> bool:
        """Return whether the record is of a run served here, or of Nodes, which every installation stores."""
        owner = _owner(manifest)
        return not owner or owner.get("namespace") in self.served

    async def _known_runs(self, over: Sequence[FinishedRecord]) -> Mapping[str, runs.StoredRunState]:
        owners = sorted({record.owner.get("uid", "") for record in over})
        found: dict[str, runs.StoredRunState] = {}
        for start in range(0, len(owners), OWNERS_AT_ONCE):
            async with self.database.read(PAGE_SECONDS) as session:
                found.update(await runs.get_stored_states(session, owners[start : start + OWNERS_AT_ONCE]))
        return found

    async def _is_gone(self, record: FinishedRecord, known: Mapping[str, runs.StoredRunState]) -> bool:
        """Return whether the record's owner is no longer in the cluster; False for an unknown kind."""
        owner = record.owner
        if not owner:
            return True  # it is of Nodes, and those are gone when it is completed
        if owner.get("kind") != RUN:
            return False
        mirrored = known.get(owner["uid"])
        if mirrored is not None:
            return mirrored.deleted
        standing = await if_found(self.cluster.get_run(owner["namespace"], owner["name"]))
        return standing is None or bool(standing["metadata"]["uid"] != owner["uid"])

    async def _delete(self, record: FinishedRecord) -> None:
        with suppress(ClusterRefused):  # it is gone, or has changed: then it is told of anew
            await self.cluster.delete_record(record.name, record.uid, record.version)
            self.metrics.usage_records_taken.inc()


def _owner(manifest: Manifest) -> Mapping[str, Any]:
    """Return the record's owner, empty for a record of Nodes."""
    return tolerant_json.mapping(tolerant_json.mapping(manifest, "spec"), "owner")


def combine_batches(tellings: Iterable[UsageBatch], most: int) -> list[UsageBatch]:
    """Combine batches up to `most` rows each, if none alone has more."""
    found: list[UsageBatch] = []
    for told in tellings:
        if not found or found[-1].size + told.size > most:
            found.append(UsageBatch())
        found[-1].merge(told)
    return found
