"""Writes what is known of a run where its owner looks: status and Events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from footplate_contracts.logs import fields
from footplate_contracts.names import API_VERSION, ConditionType, Reason
from footplate_operator.errors import AlreadyExists, ClusterError, Conflict, NotFound
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.clock import parse_time
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.memory import Memory
from footplate_operator.runtime.metrics import Metrics
from footplate_operator.runtime.throttle import Change, compare, progress_interval
from footplate_operator.runtime.workqueue import Agenda
from footplate_operator.trainingrun import events
from footplate_operator.trainingrun.desired.desired import Desired
from footplate_operator.trainingrun.run import Key, Run, key_of
from footplate_operator.trainingrun.status import conditions
from footplate_operator.trainingrun.status.conditions import NewCondition

CONFLICT_SECONDS: Final = 0.5  # the watch tells of the other change at about the same time
_log = logging.getLogger(__name__)


class StatusWriter:
    """One write a reconciliation at most, and none without news. `now` is a clock in UTC."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        queue: Agenda[Key],
        metrics: Metrics,
        now: Callable[[], datetime],
        identity: str,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._metrics = metrics
        self._now = now
        self._identity = identity

    async def report(self, run: Run, memory: Memory, desired: Desired) -> None:
        """Write what has changed: a state at once, bare progress when its time has come."""
        after = desired.status
        change = compare(run.status, after)
        if change is Change.NOTHING:
            return
        now = self._now()
        if change is Change.PROGRESS:
            wrote = memory.wrote or _last_write(run)
            interval = progress_interval(self._cache.live_runs(), run.uid)
            if wrote is not None and (left := interval - (now - wrote).total_seconds()) > 0:
                self._queue.add_after(run.key, left)
                return
        if not await self._write(run.key, run.version, after.to_json()):
            memory.listed = None  # what was read is old or gone, and the watch may be late: look again
            self._queue.add_after(run.key, CONFLICT_SECONDS)
            return
        memory.wrote = now
        for cause, count in after.failures.items():
            self._metrics.restarts.labels(cause).inc(max(0, count - run.status.failures.get(cause, 0)))
        if after.phase is not run.phase:
            _log.info("phase", extra=fields(before=run.phase, after=after.phase, why=_why(desired)))
        for event in (
            events.phase_event(run, after, self._identity, now),
            events.held_up_event(run, after, self._identity, now),
        ):
            if event is not None:
                await self._emit(event)

    async def refuse(self, body: Json, why: str) -> None:
        """A run that this release cannot read: say so, and touch nothing else."""
        key, metadata = key_of(body), body["metadata"]
        status = dict(body.get("status", {}))
        message = f"this release cannot read the object: {why}"
        new = NewCondition(ConditionType.RECONCILED, False, Reason.CONFIG_REFUSED, message)
        said = conditions.condition(new, int(metadata.get("generation", 0)), self._now()).to_json()
        known = [each for each in status.get("conditions", []) if each.get("type") != said["type"]]
        for each in status.get("conditions", []):
            if each.get("type") == said["type"] and each.get("message") == message:
                return
        status["conditions"] = [*known, said]
        _log.warning("undecodable", extra=fields(error=why))
        if not await self._write(key, str(metadata["resourceVersion"]), status):
            self._queue.add_after(key, CONFLICT_SECONDS)

    async def _write(self, key: Key, version: str, status: Json) -> bool:
        """Whether it went on top of what was read: the run may be gone, and another one have its name."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "TrainingRun",
            "metadata": {"name": key.name, "namespace": key.namespace, "resourceVersion": version},
            "status": status,
        }
        try:
            self._cache.put_run(await self._cluster.apply(body, "status"))
        except NotFound:
            _log.info("gone while its status was written")
        except Conflict:
            _log.info("changed while its status was written")
        else:
            return True
        return False

    async def _emit(self, event: Json) -> None:
        try:
            await self._cluster.create(event)
        except AlreadyExists:
            return
        except ClusterError as error:
            _log.warning("event not written", extra=fields(reason=event["reason"], error=error))


def _last_write(run: Run) -> datetime | None:
    progress = run.status.progress
    return parse_time(progress.last_updated_time) if progress and progress.last_updated_time else None


def _why(desired: Desired) -> str:
    for condition in desired.status.conditions:
        if condition.type == ConditionType.READY:
            return f"{condition.reason}: {condition.message}"[:300]
    return ""
