"""Reconciliation of one object: decode, observe, desire, apply.

Every step may be the last one before the process dies, so each is safe to repeat: names are fixed before
anything is created, existing children are never created twice, and the status, written last, never claims
what was not seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Generic

from footplate_contracts.logs import bind, log_fields
from footplate_contracts.names import Reason
from footplate_operator.errors import ClusterError, NotFound, OperatorError
from footplate_operator.runtime import refusals
from footplate_operator.runtime.actor import Actor
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.controller import Controller, DecisionT, ObservedT
from footplate_operator.runtime.controller_hooks import ObjectT
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import Key, Undecodable, key_of
from footplate_operator.runtime.status_writer import StatusWriter, SyncTimes
from footplate_operator.runtime.throttle import jitter
from footplate_operator.runtime.workqueue import Queue

SETTLED: Final = timedelta(minutes=10)  # after its end an object has no children left to tidy
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Reconciler(Generic[ObjectT, ObservedT, DecisionT]):
    """Reconciler of one kind's objects. `now` is a clock in UTC."""

    controller: Controller[ObjectT, ObservedT, DecisionT]
    cluster: Cluster
    cache: Cache
    queue: Queue[Key]
    actor: Actor
    writer: StatusWriter
    now: Callable[[], datetime]
    resync_seconds: float
    _times: dict[Key, SyncTimes] = field(default_factory=dict)

    async def __call__(self, key: Key) -> None:
        """Reconcile the object called `key`; an exception means: retry later."""
        with ExitStack() as about:
            about.enter_context(bind(**{self.controller.noun: key}))
            try:
                await self._work(key, about)
            except OperatorError as error:
                _log.warning("retrying later", extra=log_fields(error=error))
                raise
            except Exception as error:  # an edge: the status reports the operator's bugs, the queue retries
                _log.exception("failed")
                await self._report_bug(key, error)
                raise

    @property
    def tracked_count(self) -> int:
        """The number of objects with state here; objects that ended long ago have none."""
        return len(self._times)

    # -- steps -------------------------------------------------------------------------

    async def _work(self, key: Key, about: ExitStack) -> None:
        refused = await self._purge_predecessors(key)
        body = self.cache.get(key)
        if body is not None:
            await self._work_on(body, about)
        if refused is not None:
            about.close()  # it is not about the object that has the name now
            about.enter_context(bind(**{self.controller.noun: key}))
            raise refused

    async def _work_on(self, body: Json, about: ExitStack) -> None:
        """Reconcile the object; `about` collects the fields of log lines about it."""
        about.enter_context(bind(uid=body["metadata"]["uid"]))
        try:
            obj = self.controller.decode(body)
        except Undecodable as error:
            await self.writer.report_undecodable(body, error)
            return
        about.enter_context(bind(**self.controller.hooks.log_context(obj)))
        if obj.deleted:
            await self._purge(key_of(body), obj.uid)
        elif refused := await self._bring_nearer(obj, body):
            raise max(refused, key=lambda error: error.retry_after)

    async def _bring_nearer(self, obj: ObjectT, body: Json) -> list[ClusterError]:
        """Reconcile; return the refusals. Other errors are raised, lasting ones also reported."""
        try:
            return await self._reconcile(obj) if await self._up_to_date(obj, body) else []
        except ClusterError as error:
            now, times = self.now(), self._times_of(obj)
            times.refused = refusals.refused_since(times.refused, [error], now)
            problem = refusals.find_problem([error], times.refused, now)
            if problem is not None and not problem.passing:
                await self.writer.report_problem(body, problem.reason, problem.message)
            raise

    async def _report_bug(self, key: Key, error: Exception) -> None:
        body = self.cache.get(key)
        if body is not None:
            said = f"{type(error).__name__}: {error}"
            message = f"the operator has a bug, and retries; its log has the traceback: {said}"
            await self.writer.report_problem(body, Reason.OPERATOR_ERROR, message)

    async def _up_to_date(self, obj: ObjectT, body: Json) -> bool:
        """List the children if due; return whether the object is still as it was read."""
        times = self._times_of(obj)
        if not self._needs_listing(obj, times):
            return True
        if not await self._newest(obj, body):
            return False
        await self.actor.refresh(obj)
        times.listed = self.now()
        return True

    async def _reconcile(self, obj: ObjectT) -> list[ClusterError]:
        """Apply a decision and write the status; return the refusals, which the status reports."""
        await self.actor.confirm(obj)
        decision, times = await self._desire(obj, None), self._times_of(obj)
        refused = await self.actor.act(obj, decision.changes)
        if not refused:
            await self.writer.write_events(obj, decision.told)
        now = self.now()
        times.refused = refusals.refused_since(times.refused, refused, now)
        problem = refusals.find_problem(refused, times.refused, now)
        if problem is not None:
            decision = await self._desire(obj, problem)
        self.controller.send_decision(obj, decision)
        await self.writer.report(obj, decision.status, times)
        if not refused:
            self._requeue(obj, decision)
        return refused

    async def _desire(self, obj: ObjectT, problem: ReconcileProblem | None) -> DecisionT:
        children = self.cache.children(obj.namespace, obj.uid)
        predecessors = self.cache.predecessors(obj.key)
        now = self.now()  # one moment for both: what was asked for then is what is decided on
        observed = await self.controller.observe(obj, children, now, predecessors)
        return self.controller.desire(obj, observed, problem, now)

    async def _newest(self, obj: ObjectT, body: Json) -> bool:
        """Return whether the object is as it was read; if not, requeue it with its present version.

        A watch that was cut off for minutes never reports what ended meanwhile.
        """
        try:
            known = await self.cluster.get(self.controller.kind, obj.namespace, obj.name)
        except NotFound:
            known = None
        if known is not None and known["metadata"]["resourceVersion"] == obj.version:
            return True
        if known is None or known["metadata"]["uid"] != obj.uid:
            self.cache.drop(body)
            self._tell_neighbours(body, gone=True)
        if known is not None:
            self.cache.put(known)
            self._tell_neighbours(known, gone=False)
        self.queue.add(obj.key)
        return False

    def _tell_neighbours(self, body: Json, gone: bool) -> None:
        """Queue the neighbours, which a disconnected watch has not queued."""
        for key in self.controller.neighbours(body, gone):
            if key in self.cache:
                self.queue.add(key)

    async def _purge_predecessors(self, key: Key) -> ClusterError | None:
        """Delete children of deleted objects called `key`; return the last refusal, if any."""
        refused: ClusterError | None = None
        for uid in self.cache.unpurged(key):
            try:
                await self._purge(key, uid)
            except ClusterError as error:
                refused = error
            else:
                self.cache.mark_purged(key, uid)
        return refused

    async def _purge(self, key: Key, uid: str) -> None:
        self._forget(key, uid)
        await self.actor.purge(key, uid)

    def _requeue(self, obj: ObjectT, decision: DecisionT) -> None:
        if decision.requeue_after is not None:
            self.queue.add_after(obj.key, decision.requeue_after)
        elif obj.ended is None:
            self.queue.add_after(obj.key, self.resync_seconds * jitter(obj.uid))
        elif self._settled(obj):
            self._forget(obj.key, obj.uid)
            self.cache.forget_children(obj.namespace, obj.uid)
        else:
            self.queue.add_after(obj.key, SETTLED.total_seconds())

    # -- particulars -------------------------------------------------------------------

    def _times_of(self, obj: ObjectT) -> SyncTimes:
        times = self._times.get(obj.key)
        if times is not None and times.uid == obj.uid:
            return times
        if times is not None:
            self.controller.forget(times.uid)
        self._times[obj.key] = SyncTimes(obj.uid)
        return self._times[obj.key]

    def _forget(self, key: Key, uid: str) -> None:
        self.controller.forget(uid)
        if key in self._times and self._times[key].uid == uid:
            del self._times[key]

    def _needs_listing(self, obj: ObjectT, times: SyncTimes) -> bool:
        if obj.ended is not None:
            return times.listed is None and not self._settled(obj)
        return times.listed is None or (self.now() - times.listed).total_seconds() >= self.resync_seconds

    def _settled(self, obj: ObjectT) -> bool:
        """Return whether an object ended so long ago that it has no children left to tidy."""
        return obj.ended is not None and self.now() - obj.ended > SETTLED
