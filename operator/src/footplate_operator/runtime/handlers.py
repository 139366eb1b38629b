"""kopf delivers the streams; this puts names into the work-queue.

Only `on.event`: the other decorators keep annotations and finalizers on the
objects, and a run of ours must never hang in deletion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import kopf

from footplate_contracts.names import GROUP, MANAGED_BY, MANAGED_BY_LABEL, RUN_UID_LABEL, VERSION
from footplate_operator.runtime.cache import Cache, run_of_pod
from footplate_operator.runtime.reconcile import Reconciler
from footplate_operator.runtime.workqueue import WorkQueue
from footplate_operator.trainingrun.run import Key, key_of

WATCH_SECONDS: Final = 270  # the server ends a watch after this, and a new one begins; whole seconds
_CHUNK: Final = 500


class Handlers:
    """What an event means for cache and queue."""

    def __init__(self, cache: Cache, queue: WorkQueue[Key], reconciler: Reconciler) -> None:
        self._cache = cache
        self._queue = queue
        self._reconciler = reconciler

    async def run(self, event: Mapping[str, Any], **_: Any) -> None:
        """A TrainingRun was listed, made, changed or deleted."""
        body = _copy(event["object"])
        if event.get("type") == "DELETED":
            self._cache.drop_run(body)
            self._reconciler.bury(body)
        else:
            self._cache.put_run(body)
        self._queue.add(key_of(body))

    async def profile(self, event: Mapping[str, Any], **_: Any) -> None:
        """A ComputeProfile appeared or changed: whoever waits for it may go on."""
        body = _copy(event["object"])
        name = body["metadata"]["name"]
        if event.get("type") == "DELETED":
            self._cache.drop_profile(name)
            return
        self._cache.put_profile(body)
        for key in self._cache.waiting_for_profile(name):
            self._queue.add(key)

    async def pod(self, event: Mapping[str, Any], **_: Any) -> None:
        """A pod of ours changed."""
        body = _copy(event["object"])
        if event.get("type") == "DELETED":
            self._cache.drop_pod(body)
        else:
            self._cache.put_pod(body)
        key = run_of_pod(body)
        if key is not None and self._cache.run(key) is not None:
            self._queue.add(key)


def registry(handlers: Handlers) -> kopf.OperatorRegistry:
    """A registry of its own, so that importing this module registers nothing."""
    own = kopf.OperatorRegistry()
    kopf.on.event(GROUP, VERSION, "trainingruns", registry=own, id="run")(handlers.run)
    kopf.on.event(GROUP, VERSION, "computeprofiles", registry=own, id="profile")(handlers.profile)
    kopf.on.event("", "v1", "pods", registry=own, id="pod")(handlers.pod)
    kopf.on.login(registry=own, id="login")(_login)
    return own


def settings() -> kopf.OperatorSettings:
    """kopf's settings, against the traps that are known."""
    own = kopf.OperatorSettings()
    own.posting.enabled = False  # it would copy log lines into Events
    own.peering.standalone = True  # the Lease decides
    own.scanning.disabled = True  # no rights on namespaces and CRDs; what we watch is there already
    own.watching.chunk_size = _CHUNK
    own.watching.server_timeout = WATCH_SECONDS  # without these, watches go silent one day
    own.watching.client_timeout = WATCH_SECONDS + 30.0
    own.watching.connect_timeout = 10.0
    own.watching.label_selectors["", "v1", "pods"] = f"{MANAGED_BY_LABEL}={MANAGED_BY},{RUN_UID_LABEL}"
    own.networking.request_timeout = 60.0
    own.queueing.idle_timeout = 1.0  # one task per object that was ever seen is too many
    return own


async def _login(**arguments: Any) -> Any:
    """Without the client library that kopf would import for it, which is larger than all of us."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


def _copy(body: Mapping[str, Any]) -> dict[str, Any]:
    """A shallow copy with metadata of its own: kopf keeps the event."""
    return {**body, "metadata": dict(body["metadata"])}
