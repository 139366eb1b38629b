"""One run, once: decode, observe, desire, apply.

Every step may be the last one before the process dies, so each is safe to do
again: names are fixed before anything is made, what exists is never made twice,
and the status, written last, never claims what was not seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.logs import bind
from footplate_contracts.names import COORDINATOR_PORT, Phase, Reason, RunUid
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_operator.errors import NotFound
from footplate_operator.runtime.actor import Actor
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.clock import parse_time
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import PROFILE, TRAINING_RUN, Json
from footplate_operator.runtime.memory import Memory, mount_error, refresh
from footplate_operator.runtime.metrics import Metrics
from footplate_operator.runtime.status_writer import StatusWriter
from footplate_operator.runtime.throttle import jitter
from footplate_operator.runtime.workqueue import Agenda
from footplate_operator.trainingrun.coordinator_client import Coordinators, Endpoint
from footplate_operator.trainingrun.desired.desired import Desired
from footplate_operator.trainingrun.desired.run import desire
from footplate_operator.trainingrun.manifests.metadata import coordinator_host
from footplate_operator.trainingrun.observed import SILENT, Observed, Problem
from footplate_operator.trainingrun.revision import Defaults, Revision, admit, in_force, needs_admission
from footplate_operator.trainingrun.run import Key, Run, Undecodable, decode, key_of

SETTLED: Final = timedelta(minutes=10)  # after its end a run has no children left to tidy


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
        self._actor = Actor(cluster, cache, coordinators, now)
        self._writer = StatusWriter(cluster, cache, queue, metrics, now, identity)
        self._cluster = cluster
        self._cache = cache
        self._coordinators = coordinators
        self._queue = queue
        self._metrics = metrics
        self._defaults = defaults
        self._now = now
        self._resync = resync_seconds
        self._port = coordinator_port
        self._memories: dict[Key, Memory] = {}
        self._graves: dict[Key, set[RunUid]] = {}

    def bury(self, body: Json) -> None:
        """The run is gone: take its pods away, faster than garbage collection does."""
        self._graves.setdefault(key_of(body), set()).add(RunUid(body["metadata"]["uid"]))

    async def __call__(self, key: Key) -> None:
        """Reconcile the run called `key`; an exception means: try again later."""
        began = time.monotonic()
        result = "error"
        try:
            with bind(run=key):
                await self._clear_graves(key)
                body = self._cache.run(key)
                if body is not None:
                    with bind(uid=body["metadata"]["uid"]):
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
            await self._writer.refuse(body, str(error))
            return
        if run.deleted:
            await self._actor.purge(run.key, run.uid)
            return
        memory = self._memory(run)
        if self._needs_listing(run, memory):
            if not await self._newest(run, body):
                return
            await refresh(memory, run, self._cluster, self._cache, self._now())
        observed = await self._observe(run, memory)
        revision, observed = self._revision(run, memory, observed)
        desired = desire(run, revision, observed, self._now())
        problem, refused = await self._actor.act(run, memory, desired)
        if problem is not None:
            seen = await self._observe(run, memory)
            observed = replace(seen, problem=problem, profiles=observed.profiles)
            desired = desire(run, revision, observed, self._now())
        await self._writer.report(run, memory, desired)
        self._listen(run, memory, desired)
        if refused is not None:
            raise refused
        self._plan(run, desired)

    async def _newest(self, run: Run, body: Json) -> bool:
        """Whether the run is as it was read; where it is not, the next round has what it is now.

        A watch that was cut off for minutes never tells what ended meanwhile.
        """
        try:
            known = await self._cluster.get(TRAINING_RUN, run.namespace, run.name)
        except NotFound:
            known = None
        if known is not None and known["metadata"]["resourceVersion"] == run.version:
            return True
        if known is None or known["metadata"]["uid"] != run.uid:
            self._cache.drop_run(body)
            self.bury(body)
        if known is not None:
            self._cache.put_run(known)
        self._queue.add(run.key)
        return False

    async def _observe(self, run: Run, memory: Memory) -> Observed:
        pods = []
        for pod in self._cache.pods(run.namespace, run.uid):
            told = await mount_error(memory, run, pod, self._cluster, self._now())
            seen = replace(pod, mount_error=told) if told else pod
            since = memory.held_since(seen, self._now())
            pods.append(replace(seen, held_since=since) if since else seen)
        return Observed(
            pods=tuple(pods),
            children=tuple(memory.children.values()),
            coordinator=self._coordinators.state(run.uid) or SILENT,
            profiles=await self._profiles(run),
        )

    async def _profiles(self, run: Run) -> dict[str, ComputeProfileSpec]:
        """Known profiles; before one is said to be missing, the API server is asked."""
        wanted = run.spec.compute.profile
        if needs_admission(run.phase, run.spec.suspend) and wanted not in self._cache.profiles:
            for body in await self._cluster.find(PROFILE, ""):
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
            return None, replace(observed, problem=problem)
        try:
            return admit(run, profile, self._defaults, memory.revisions), observed
        except (ValueError, AssertionError) as error:
            return None, replace(observed, problem=Problem(Reason.CONFIG_REFUSED, str(error)[:1024], True))

    def _listen(self, run: Run, memory: Memory, desired: Desired) -> None:
        pod = desired.coordinator
        if pod is None or not pod.address:
            if run.phase is not None and run.phase.terminal:
                self._coordinators.forget(run.uid)
            elif run.phase is Phase.SUSPENDED:
                self._coordinators.leave(run.uid)  # nobody answers there until the run is resumed
            return
        if memory.credentials is None:
            return
        endpoint = Endpoint(
            pod_uid=pod.uid,
            epoch=pod.epoch,
            address=pod.address,
            host=coordinator_host(run),
            token=memory.credentials.token,
            certificate=memory.credentials.certificate.decode(),
            port=self._port,
        )
        self._coordinators.follow(run.key, run.uid, endpoint)

    def _plan(self, run: Run, desired: Desired) -> None:
        if desired.requeue_after is not None:
            self._queue.add_after(run.key, desired.requeue_after)
        elif desired.status.phase is not None and not desired.status.phase.terminal:
            self._queue.add_after(run.key, self._resync * jitter(run.uid))
        elif self._settled(run):
            self._memories.pop(run.key, None)
        else:
            self._queue.add_after(run.key, SETTLED.total_seconds())

    # -- particulars -------------------------------------------------------------------

    def _memory(self, run: Run) -> Memory:
        memory = self._memories.get(run.key)
        if memory is None or memory.uid != run.uid:
            memory = Memory(run.uid)
            self._memories[run.key] = memory
        return memory

    def _needs_listing(self, run: Run, memory: Memory) -> bool:
        if run.phase is not None and run.phase.terminal:
            return memory.listed is None and not self._settled(run)
        return memory.listed is None or (self._now() - memory.listed).total_seconds() >= self._resync

    def _settled(self, run: Run) -> bool:
        """Whether a run ended so long ago that it has no children left to tidy."""
        end = run.status.completion_time
        ended = run.phase is not None and run.phase.terminal and end is not None
        return ended and self._now() - parse_time(end or "") > SETTLED

    async def _clear_graves(self, key: Key) -> None:
        for uid in list(self._graves.get(key, ())):
            await self._actor.purge(key, uid)
            memory = self._memories.get(key)
            if memory is not None and memory.uid == uid:
                del self._memories[key]
            self._cache.forget_pods(key.namespace, uid)
            self._graves[key].discard(uid)
        if not self._graves.get(key):
            self._graves.pop(key, None)
