"""Authorizes telemetry senders: the pod that coordinates the run, or did.

A thousand coordinators send a batch a second each, so a verified sender is cached: a pod that is or was a
run's coordinator stays one. The token does not matter either: the kubelet renews it each hour, but the pod
stays the same.

The API looks up other senders in the database, where the mirror stores what statuses report. The mirror may
lag behind, so Kubernetes has the last word. The API queries it once at a time for each pod, whatever run that
pod claims to coordinate. A whole fleet may be unknown at once, as after a restart: only a few look-ups run at
a time, so that the time which a database has to answer is not spent in a queue.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from footplate_api.coordinators import record, repository
from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.db.database import Database
from footplate_api.errors import ClusterRefused, ClusterUnavailable, NotItsCoordinator
from footplate_api.identity.caller import Caller
from footplate_api.kubernetes.client import KubernetesClient, Manifest

MOST: Final = 20_000  # that are kept in memory, of some 500 bytes each
STRANGE_SECONDS: Final = 2.0  # for so long a pod that was not found is not looked for again
ASKED_AT_ONCE: Final = 16  # runs that Kubernetes is asked for
LOOKED_FOR_AT_ONCE: Final = 4  # in the database: of its connections some are left to others
TIMEOUT_SECONDS: Final = 5.0  # with its answer
_NOT_FOUND: Final = 404
_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class CoordinatorAuthorizer:
    """Authorizer of telemetry senders.

    `clock` returns monotonic seconds; `most` limits the cached pods, `timeout` in seconds the wait for
    Kubernetes.
    """

    def __init__(
        self,
        database: Database,
        cluster: KubernetesClient,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._clock = clock
        self._most = most
        self._timeout = timeout
        self._known: OrderedDict[tuple[str, str, str], CoordinatorPod] = OrderedDict()
        self._strange: OrderedDict[str, float] = OrderedDict()  # pod -> until when
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # of pods
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._looking = asyncio.Semaphore(LOOKED_FOR_AT_ONCE)

    async def authorize(self, caller: Caller, namespace: str, name: str) -> CoordinatorPod:
        """Return `caller` as the run's current or former coordinator; both names may be any text.

        Raises NotItsCoordinator, the same for every cause; ClusterUnavailable, InstallationLacksRights,
        DatabaseUnavailable.
        """
        pod_uid = caller.pod_uid
        if pod_uid is None or caller.namespace != namespace or not _NAME.fullmatch(name):
            raise refusal(namespace, name)
        known = self._known.get((namespace, name, pod_uid))
        if known is None:
            async with self._turns.setdefault(pod_uid, asyncio.Lock()):
                return await self._found(namespace, name, pod_uid)
        self._known.move_to_end((namespace, name, pod_uid))
        return known

    async def _found(self, namespace: str, name: str, pod_uid: str) -> CoordinatorPod:
        key = namespace, name, pod_uid
        if key in self._known:  # by now
            return self._known[key]
        if self._clock() < self._strange.get(pod_uid, 0.0):
            raise refusal(namespace, name)
        found = await self._stored(*key) or await self._live(*key)
        if found is None:
            _remember(self._strange, pod_uid, self._clock() + STRANGE_SECONDS, self._most)
            raise refusal(namespace, name)
        _remember(self._known, key, found, self._most)
        return found

    async def _stored(self, namespace: str, name: str, pod_uid: str) -> CoordinatorPod | None:
        async with self._looking, self._database.read() as session:
            return await repository.find(session, namespace, name, pod_uid)

    async def _live(self, namespace: str, name: str, pod_uid: str) -> CoordinatorPod | None:
        """Return the coordinator from Kubernetes; store it, as the run may go before the mirror sees it."""
        manifest = await self._asked(namespace, name)
        found = None if manifest is None else record.coordinator_of(manifest)
        if found is None or found.pod_uid != pod_uid:
            return None
        async with self._looking, self._database.write() as session:
            await repository.store_coordinators(session, [found])
        return found

    async def _asked(self, namespace: str, name: str) -> Manifest | None:
        try:
            async with asyncio.timeout(self._timeout), self._asking:
                return await self._cluster.get_run(namespace, name)
        except ClusterRefused as error:
            if error.status == _NOT_FOUND:
                return None
            # Of this API's own question: to the sender it would be a verdict on its rows.
            raise ClusterUnavailable(f"The Kubernetes API server answered {error.status}: {error}") from error
        except TimeoutError as error:
            raise ClusterUnavailable("The Kubernetes API server does not answer in time.") from error


def refusal(namespace: str, name: str) -> NotItsCoordinator:
    """Return the error for everyone but this run's coordinator, whether there is one or not."""
    return NotItsCoordinator(
        f"Only the pod of its coordinator may send telemetry of the run {namespace}/{name}."
    )


def _remember(memory: OrderedDict[Key, Value], key: Key, value: Value, most: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > most:
        memory.popitem(last=False)
