"""One run, once: decode, observe, desire, apply.

Every step may be the last one before the process dies, so each is safe to do
again: names are fixed before anything is made, what exists is never made twice,
and the status, written last, never claims what was not seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from footplate_contracts.names import API_VERSION, COORDINATOR_PORT, ConditionType, Reason
from footplate_contracts.reports import Command
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_operator import events
from footplate_operator.cache import Cache
from footplate_operator.clock import parse_time
from footplate_operator.cluster import Cluster
from footplate_operator.coordinator_client import Coordinators, Endpoint
from footplate_operator.credentials import new_credentials
from footplate_operator.desired import children, conditions
from footplate_operator.desired.desired import Desired, How, Surplus
from footplate_operator.desired.revision import Defaults, Revision, admit, in_force, needs_admission
from footplate_operator.desired.run import desire
from footplate_operator.errors import AlreadyExists, ClusterError, Conflict, Forbidden, Invalid, NotFound
from footplate_operator.kinds import POD, PROFILE, QUIET_CHILDREN, TRAINING_RUN, Json
from footplate_operator.log import fields
from footplate_operator.memory import Memory, mount_error, refresh
from footplate_operator.metrics import Metrics
from footplate_operator.observed import Observed, PodView, Problem
from footplate_operator.policies.throttle import Change, compare, progress_interval
from footplate_operator.run import Key, Run, Undecodable, decode, key_of
from footplate_operator.workqueue import Agenda

DELETED_GRACE: Final = 2  # seconds: nobody wants a checkpoint of a run that was deleted
COMMAND_RETRY_SECONDS: Final = 1.0
SETTLED: Final = timedelta(minutes=10)  # after its end a run has no children left to tidy
_AT_ONCE: Final = 32  # pods that are made at the same time for one run
_log = logging.getLogger(__name__)


class Reconciler:
    """Brings runs nearer to what their specs ask. `now` is a clock in UTC."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        coordinators: Coordinators,
        queue: Agenda[Key],
        metrics: Metrics,
        defaults: Defaults,
        now: Callable[[], datetime],
        resync_seconds: float = 300.0,
        identity: str = "footplate-operator",
        coordinator_port: int = COORDINATOR_PORT,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._coordinators = coordinators
        self._queue = queue
        self._metrics = metrics
        self._defaults = defaults
        self._now = now
        self._resync = resync_seconds
        self._identity = identity
        self._port = coordinator_port
        self._memories: dict[Key, Memory] = {}
        self._graves: dict[Key, set[str]] = {}

    def bury(self, body: Json) -> None:
        """The run is gone: take its pods away, faster than garbage collection does."""
        self._graves.setdefault(key_of(body), set()).add(body["metadata"]["uid"])

    async def __call__(self, key: Key) -> None:
        """Reconcile the run called `key`; an exception means: try again later."""
        began = time.monotonic()
        result = "error"
        try:
            await self._clear_graves(key)
            body = self._cache.run(key)
            if body is not None:
                await self._reconcile(body)
            result = "success"
        finally:
            self._metrics.reconciles.labels(result).inc()
            self._metrics.seconds.observe(time.monotonic() - began)

    # -- steps -------------------------------------------------------------------------

    async def _reconcile(self, body: Json) -> None:
        try:
            run = decode(body)
        except Undecodable as error:
            await self._refuse(body, str(error))
            return
        if run.deleted:
            await self._purge(run.key, run.uid)
            return
        memory = self._memory(run)
        if self._needs_listing(run, memory):
            await refresh(memory, run, self._cluster, self._cache, self._now())
        observed = await self._observe(run, memory)
        revision, observed = self._revision(run, memory, observed)
        desired = desire(run, revision, observed, self._now())
        problem, refused = await self._act(run, memory, desired)
        if problem is not None:
            seen = await self._observe(run, memory)
            observed = replace(seen, problem=problem, profiles=observed.profiles)
            desired = desire(run, revision, observed, self._now())
        await self._report(run, memory, desired)
        self._listen(run, memory, desired)
        if refused is not None:
            raise refused
        self._plan(run, desired)

    async def _observe(self, run: Run, memory: Memory) -> Observed:
        pods = []
        for pod in self._cache.pods(run.uid):
            told = await mount_error(memory, run, pod, self._cluster, self._now())
            pods.append(replace(pod, mount_error=told) if told else pod)
        return Observed(
            pods=tuple(pods),
            children=tuple(memory.children.values()),
            coordinator=self._coordinators.state(run.uid),
            profiles=await self._profiles(run),
        )

    async def _profiles(self, run: Run) -> dict[str, ComputeProfileSpec]:
        """Known profiles; before one is said to be missing, the API server is asked."""
        wanted = run.spec.compute.profile
        if needs_admission(run.phase, run.spec.suspend) and wanted not in self._cache.profiles:
            for body in await self._cluster.list(PROFILE, ""):
                self._cache.put_profile(body)
        return dict(self._cache.profiles)

    def _revision(self, run: Run, memory: Memory, observed: Observed) -> tuple[Revision | None, Observed]:
        known = in_force(run, memory.revisions)
        if not needs_admission(run.phase, run.spec.suspend) and known is not None:
            return known, observed
        wanted = run.spec.compute.profile
        profile = (observed.profiles or {}).get(wanted)
        if profile is None:
            why = self._cache.broken_profiles.get(wanted)
            if why is None:
                return None, observed
            problem = Problem(Reason.PROFILE_NOT_FOUND, f"ComputeProfile {wanted} cannot be read: {why}")
            profiles = {**(observed.profiles or {}), wanted: ComputeProfileSpec.model_construct()}
            return None, replace(observed, problem=problem, profiles=profiles)
        try:
            return admit(run, profile, self._defaults, memory.revisions), observed
        except (ValueError, AssertionError) as error:
            return None, replace(observed, problem=Problem(Reason.CONFIG_REFUSED, str(error)[:1024], True))

    async def _act(
        self, run: Run, memory: Memory, desired: Desired
    ) -> tuple[Problem | None, ClusterError | None]:
        """Do what was decided; the first refusal is a problem for the status, and for a later try."""
        try:
            if desired.secret:
                credentials = new_credentials(children.certificate_names(run), self._now())
                await self._create(run, memory, children.secret(run, credentials))
            await _together(self._create(run, memory, body) for body in desired.children)
            await _together(self._create(run, memory, body) for body in desired.pods)
            await _together(self._remove(run, surplus) for surplus in desired.surplus)
            for child in desired.surplus_children:
                await self._cluster.delete(child.kind, run.namespace, child.name, child.uid)
                memory.drop(child)
            if desired.command is not Command.NONE:
                await self._coordinators.command(run.uid, desired.command)
            if desired.delete_run:
                _log.info("run %s", fields(event="expired", run=run.key))
                await self._cluster.delete(TRAINING_RUN, run.namespace, run.name, run.uid)
        except ClusterError as error:
            _log.warning("run %s", fields(event="refused", run=run.key, status=error.status, error=error))
            return _problem(error), error
        return None, None

    async def _create(self, run: Run, memory: Memory, body: Json) -> None:
        kind, name = children.identity(body)
        try:
            made = await self._cluster.create(body)
            _log.info("run %s", fields(event="created", run=run.key, kind=kind.name, name=name))
        except AlreadyExists:
            made = await self._cluster.get(kind, run.namespace, name)
            if _owner(made) != run.uid:
                message = f"{kind.name} {name} exists and belongs to {_owner_name(made)}"
                raise Conflict(message, 409, Reason.CHILD_CONFLICT) from None
        if kind == POD:
            self._cache.put_pod(made)
        else:
            memory.remember(kind, made)

    async def _remove(self, run: Run, surplus: Surplus) -> None:
        pod = surplus.pod
        event = "stopping" if surplus.how is How.STOP else "deleting"
        _log.info("run %s", fields(event=event, run=run.key, name=pod.name, grace=surplus.grace))
        if surplus.how is How.STOP and await self._stop(run, pod):
            return
        await self._cluster.delete(POD, run.namespace, pod.name, pod.uid, surplus.grace)
        self._cache.mark_terminating(pod)

    async def _stop(self, run: Run, pod: PodView) -> bool:
        """End the containers through the pod's own deadline, so that it keeps its log."""
        patch: Json = {"metadata": {"uid": pod.uid}, "spec": {"activeDeadlineSeconds": 1}}
        try:
            self._cache.put_pod(await self._cluster.merge(POD, run.namespace, pod.name, patch))
        except (NotFound, Conflict):
            return True
        except (Forbidden, Invalid) as error:
            _log.warning("run %s", fields(event="not stopped", run=run.key, name=pod.name, error=error))
            return False
        return True

    async def _report(self, run: Run, memory: Memory, desired: Desired) -> None:
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
        memory.wrote = now
        await self._write(run.key, run.uid, after.to_json())
        for cause, count in after.failures.items():
            self._metrics.restarts.labels(cause).inc(max(0, count - run.status.failures.get(cause, 0)))
        if after.phase is not run.phase:
            _log.info(
                "run %s",
                fields(event="phase", run=run.key, before=run.phase, after=after.phase, why=_why(desired)),
            )
        for event in (
            events.phase_event(run, after, self._identity, now),
            events.held_up_event(run, after, self._identity, now),
        ):
            if event is not None:
                await self._emit(event)

    async def _write(self, key: Key, uid: str, status: Json) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": "TrainingRun",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": status,
        }
        try:
            self._cache.put_run(await self._cluster.apply(body, "status"))
        except (NotFound, Conflict) as error:
            _log.info("run %s", fields(event="gone while its status was written", run=key, error=error))

    async def _emit(self, event: Json) -> None:
        try:
            await self._cluster.create(event)
        except AlreadyExists:
            return
        except ClusterError as error:
            _log.warning("event %s", fields(event="not written", reason=event["reason"], error=error))

    def _listen(self, run: Run, memory: Memory, desired: Desired) -> None:
        pod = desired.coordinator
        if pod is None or not pod.address:
            if run.phase is not None and run.phase.terminal:
                self._coordinators.leave(run.uid)
            return
        if memory.credentials is None:
            return
        endpoint = Endpoint(
            pod_uid=pod.uid,
            epoch=pod.epoch,
            address=pod.address,
            host=children.coordinator_host(run),
            token=memory.credentials.token,
            certificate=memory.credentials.certificate.decode(),
            port=self._port,
        )
        self._coordinators.follow(run.key, run.uid, endpoint)

    def _plan(self, run: Run, desired: Desired) -> None:
        if desired.again is not None:
            self._queue.add_after(run.key, desired.again)
        elif desired.status.phase is not None and not desired.status.phase.terminal:
            self._queue.add_after(run.key, self._resync * progress_interval(0, run.uid) / 3.0)

    # -- particulars -------------------------------------------------------------------

    async def _refuse(self, body: Json, why: str) -> None:
        """A run that this release cannot read: say so, and touch nothing else."""
        key, metadata = key_of(body), body["metadata"]
        status = dict(body.get("status", {}))
        message = f"this release cannot read the object: {why}"
        said = conditions.condition(
            ConditionType.RECONCILED,
            False,
            Reason.CONFIG_REFUSED,
            message,
            int(metadata.get("generation", 0)),
            self._now(),
        ).to_json()
        known = [each for each in status.get("conditions", []) if each.get("type") != said["type"]]
        for each in status.get("conditions", []):
            if each.get("type") == said["type"] and each.get("message") == message:
                return
        status["conditions"] = [*known, said]
        _log.warning("run %s", fields(event="undecodable", run=key, error=why))
        await self._write(key, metadata["uid"], status)

    def _memory(self, run: Run) -> Memory:
        memory = self._memories.get(run.key)
        if memory is None or memory.uid != run.uid:
            memory = Memory(run.uid)
            self._memories[run.key] = memory
        return memory

    def _needs_listing(self, run: Run, memory: Memory) -> bool:
        now = self._now()
        if run.phase is not None and run.phase.terminal:
            end = run.status.completion_time
            settled = end is not None and now - parse_time(end) > SETTLED
            return memory.listed is None and not settled
        return memory.listed is None or (now - memory.listed).total_seconds() >= self._resync

    async def _clear_graves(self, key: Key) -> None:
        for uid in list(self._graves.get(key, ())):
            await self._purge(key, uid)
            memory = self._memories.get(key)
            if memory is not None and memory.uid == uid:
                del self._memories[key]
            self._cache.forget_pods(uid)
            self._graves[key].discard(uid)
        if not self._graves.get(key):
            self._graves.pop(key, None)

    async def _purge(self, key: Key, uid: str) -> None:
        """One request for the pods, which hold GPUs, then the rest."""
        _log.info("run %s", fields(event="purging", run=key, uid=uid))
        labels = children.selector(uid)
        self._coordinators.forget(uid)
        await self._cluster.delete_all(POD, key.namespace, labels, DELETED_GRACE)
        for kind in QUIET_CHILDREN:
            try:
                await self._cluster.delete_all(kind, key.namespace, labels)
            except Forbidden as error:
                _log.warning("run %s", fields(event="left to garbage collection", run=key, error=error))


async def _together(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all `steps`, a few at a time; raises the first error once all are through."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(step: Coroutine[Any, Any, None]) -> None:
        async with gate:
            await step

    results = await asyncio.gather(*(one(step) for step in steps), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _problem(error: ClusterError) -> Problem | None:
    if error.status == 0:
        return None  # nobody there to tell
    if error.reason == Reason.CHILD_CONFLICT:
        return Problem(Reason.CHILD_CONFLICT, str(error))
    return Problem(Reason.API_ERROR, str(error)[:1024], final=isinstance(error, Invalid))


def _owner(body: Json) -> str:
    for reference in body["metadata"].get("ownerReferences", []):
        if reference.get("controller"):
            return str(reference.get("uid", ""))
    return ""


def _owner_name(body: Json) -> str:
    for reference in body["metadata"].get("ownerReferences", []):
        if reference.get("controller"):
            return f"{reference.get('kind')} {reference.get('name')} (uid {reference.get('uid')})"
    return "nobody"


def _last_write(run: Run) -> datetime | None:
    progress = run.status.progress
    return parse_time(progress.last_updated_time) if progress and progress.last_updated_time else None


def _why(desired: Desired) -> str:
    for condition in desired.status.conditions:
        if condition.type == ConditionType.READY:
            return f"{condition.reason}: {condition.message}"[:300]
    return ""
