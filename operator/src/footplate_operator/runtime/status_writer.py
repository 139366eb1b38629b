"""Writes an object's status and Events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from footplate_contracts.base import Contract
from footplate_contracts.logs import log_fields
from footplate_contracts.names import ConditionType, Reason
from footplate_operator.errors import AlreadyExists, ClusterError, Conflict, NotFound
from footplate_operator.runtime import events
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.conditions import NewCondition, condition
from footplate_operator.runtime.controller import Controller
from footplate_operator.runtime.events import ObjectEvent
from footplate_operator.runtime.kinds import EVENT, Json
from footplate_operator.runtime.objects import Key, KubernetesObject, Undecodable, key_of
from footplate_operator.runtime.refusals import Standing
from footplate_operator.runtime.throttle import StatusChange, progress_interval
from footplate_operator.runtime.workqueue import Queue

CONFLICT_SECONDS: Final = 0.5  # the watch tells of the other change at about the same time
_log = logging.getLogger(__name__)


@dataclass
class SyncTimes:
    """Times of an object's last list, write and refusals; `uid` distinguishes objects of the same name."""

    uid: str
    listed: datetime | None = None  # with its children
    wrote: datetime | None = None
    refused: Standing = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StatusWriter:
    """Status writer: at most one write per reconciliation, and none without news.

    `now` is a clock in UTC; `identity` is that of this replica, for Events.
    """

    controller: Controller[Any, Any, Any]
    cluster: Cluster
    cache: Cache
    queue: Queue[Key]
    now: Callable[[], datetime]
    identity: str

    async def report(self, obj: KubernetesObject[Any, Any], after: Contract, times: SyncTimes) -> None:
        """Write a changed status: a state at once, bare progress when it is due."""
        change = self.controller.hooks.compare(obj.status, after)
        if change is StatusChange.NOTHING:
            return
        now = self.now()
        if change is StatusChange.PROGRESS:
            wrote = times.wrote or self.controller.hooks.last_progress(obj)
            interval = progress_interval(self.cache.live(), obj.uid)
            # Another leader's clock may have been ahead of ours.
            if wrote is not None and 0.0 <= (passed := (now - wrote).total_seconds()) < interval:
                self.queue.add_after(obj.key, interval - passed)
                return
        after = self.controller.hooks.complete(obj, after)
        if not await self._write(obj.key, obj.version, after.to_json()):
            times.listed = None  # what was read is old or gone, and the watch may be late: look again
            return
        times.wrote = now
        if change is StatusChange.STATE:
            self.queue.add(obj.key)  # what is decided next may depend on it
        await self.write_events(obj, self.controller.build_events(obj, after))

    async def write_events(self, obj: KubernetesObject[Any, Any], told: Iterable[ObjectEvent]) -> None:
        """Write Events about an object."""
        for event in told:
            await self._emit(obj, event, self.now())

    async def report_undecodable(self, body: Json, error: Undecodable) -> None:
        """Report an object that this release cannot decode, and change nothing else."""
        if await self.report_problem(body, error.reason, str(error)):
            _log.warning("undecodable", extra=log_fields(error=error))

    async def report_problem(self, body: Json, reason: Reason, message: str) -> bool:
        """Report why nothing can be done for an object, in its condition only; return whether it is news."""
        key, metadata = key_of(body), body["metadata"]
        status = dict(body.get("status", {}))
        generation = int(metadata.get("generation", 0))
        new = NewCondition(ConditionType.RECONCILED, False, reason, message)
        said = condition(new, generation, self.now()).to_json()
        others = []
        for known in status.get("conditions", []):
            if known.get("type") != said["type"]:
                others.append(known)
            elif known.get("message") == said["message"]:
                return False
        await self._write(key, str(metadata["resourceVersion"]), {**status, "conditions": [*others, said]})
        return True

    async def _write(self, key: Key, version: str, status: Json) -> bool:
        """Write `status`; return whether the object still had this version."""
        kind = self.controller.kind
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": key.name, "namespace": key.namespace, "resourceVersion": version},
            "status": status,
        }
        try:
            self.cache.put(await self.cluster.apply(kind, body, "status"))
        except (NotFound, Conflict) as error:
            _log.info("deleted or changed while its status was written", extra=log_fields(error=error))
            self.queue.add_after(key, CONFLICT_SECONDS)
            return False
        return True

    async def _emit(self, obj: KubernetesObject[Any, Any], event: ObjectEvent, now: datetime) -> None:
        manifest = events.manifest(self.controller.kind, obj, event, self.identity, now)
        try:
            await self.cluster.create(EVENT, manifest)
        except AlreadyExists:
            return
        except ClusterError as error:
            _log.warning("event not written", extra=log_fields(reason=event.reason, error=error))
