"""Does what was decided: the calls that change something, in an order that may break off anywhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import Any, Final

from footplate_contracts.logs import fields
from footplate_contracts.names import Reason, Role, RunUid
from footplate_contracts.reports import Command
from footplate_operator.errors import AlreadyExists, ClusterError, Conflict, Forbidden, Invalid, NotFound
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import POD, QUIET_CHILDREN, TRAINING_RUN, Json
from footplate_operator.runtime.memory import Memory
from footplate_operator.trainingrun.coordinator_client import Coordinators
from footplate_operator.trainingrun.credentials import new_credentials
from footplate_operator.trainingrun.desired.desired import Desired
from footplate_operator.trainingrun.gang.retire import DeletionMode, PodDeletion
from footplate_operator.trainingrun.labels import selector, slot_labels
from footplate_operator.trainingrun.manifests import children
from footplate_operator.trainingrun.manifests.metadata import certificate_names, identity
from footplate_operator.trainingrun.observed import PodView, Problem, controller
from footplate_operator.trainingrun.run import Key, Run

DELETED_GRACE: Final = 2  # seconds: nobody wants a checkpoint of a run that was deleted
_AT_ONCE: Final = 32  # calls that are made at the same time for one run
_log = logging.getLogger(__name__)


class Actor:
    """The only one that makes and deletes children. `now` is a clock in UTC."""

    def __init__(
        self, cluster: Cluster, cache: Cache, coordinators: Coordinators, now: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._coordinators = coordinators
        self._now = now

    async def act(
        self, run: Run, memory: Memory, desired: Desired
    ) -> tuple[Problem | None, ClusterError | None]:
        """Do what was decided; the first refusal is a problem for the status, and for a later try."""
        try:
            if desired.secret:
                # A Secret that somebody deleted comes back as it was: pods have read it already.
                names = certificate_names(run)
                credentials = memory.credentials or new_credentials(names, self._now())
                await self._create(run, memory, children.secret(run, credentials))
            await _together(self._create(run, memory, body) for body in desired.children)
            await _together(self._promote(run, pod) for pod in desired.promoted)
            await _together(self._remove(run, deletion) for deletion in desired.pod_deletions)
            await _together(self._create(run, memory, body) for body in desired.pods)
            for child in desired.child_deletions:
                await self._cluster.delete(child.kind, run.namespace, child.name, child.uid)
                memory.drop(child)
            if desired.terms is not None:  # before the command, which may end what was to go on
                await self._coordinators.set_terms(run.uid, desired.terms)
            if desired.command is not Command.NONE:
                await self._coordinators.command(run.uid, desired.command)
            if desired.size is not None:
                await self._coordinators.resize(run.uid, desired.size)
            if desired.hang is not None:
                await self._coordinators.judge_hangs(run.uid, desired.hang)
            if desired.delete_run:
                _log.info("deleting the run: its time to live is over")
                await self._cluster.delete(TRAINING_RUN, run.namespace, run.name, run.uid)
        except ClusterError as error:
            _log.warning("refused", extra=fields(status=error.status, error=error))
            return _problem(error), error
        return None, None

    async def purge(self, key: Key, uid: RunUid) -> None:
        """One request for the pods, which hold GPUs, then the rest."""
        _log.info("deleting the children of a deleted run", extra=fields(run=key, uid=uid))
        labels = selector(uid)
        self._coordinators.forget(uid)
        await self._cluster.delete_all(POD, key.namespace, labels, DELETED_GRACE)
        for kind in QUIET_CHILDREN:
            try:
                await self._cluster.delete_all(kind, key.namespace, labels)
            except Forbidden as error:
                _log.warning("left to garbage collection", extra=fields(kind=kind.name, error=error))

    async def _create(self, run: Run, memory: Memory, body: Json) -> None:
        kind, name = identity(body)
        try:
            made = await self._cluster.create(body)
            _log.info("created", extra=fields(kind=kind.name, name=name))
        except AlreadyExists:
            made = await self._cluster.get(kind, run.namespace, name)
            if controller(made).get("uid") != run.uid:
                message = f"{kind.name} {name} exists and belongs to {_owner_name(made)}"
                raise Conflict(message, 409, Reason.CHILD_CONFLICT) from None
        if kind == POD:
            self._cache.put_pod(made)
        else:
            memory.remember(kind, made)

    async def _promote(self, run: Run, pod: PodView) -> None:
        """Label a spare as the worker that it has become."""
        _log.info("promoted", extra=fields(pod=pod.name, index=pod.index))
        labels = slot_labels(Role.WORKER, pod.worker)
        patch: Json = {"metadata": {"uid": pod.uid, "labels": labels}}
        try:
            self._cache.put_pod(await self._cluster.merge(POD, run.namespace, pod.name, patch))
        except (NotFound, Conflict):
            return  # it is gone, or another one: the next look shows

    async def _remove(self, run: Run, deletion: PodDeletion) -> None:
        pod = deletion.pod
        event = "stopping" if deletion.mode is DeletionMode.STOP else "deleting"
        _log.info(event, extra=fields(pod=pod.name, grace=deletion.grace))
        if deletion.mode is DeletionMode.STOP and await self._stop(run, pod):
            return
        await self._cluster.delete(POD, run.namespace, pod.name, pod.uid, deletion.grace)
        self._cache.mark_terminating(pod)

    async def _stop(self, run: Run, pod: PodView) -> bool:
        """End the containers through the pod's own deadline, so that it keeps its log."""
        patch: Json = {"metadata": {"uid": pod.uid}, "spec": {"activeDeadlineSeconds": 1}}
        try:
            self._cache.put_pod(await self._cluster.merge(POD, run.namespace, pod.name, patch))
        except (NotFound, Conflict):
            return True
        except (Forbidden, Invalid) as error:
            _log.warning("not stopped", extra=fields(pod=pod.name, error=error))
            return False
        return True


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


def _owner_name(body: Json) -> str:
    owner = controller(body)
    return f"{owner.get('kind')} {owner.get('name')} (uid {owner.get('uid')})" if owner else "nobody"
