"""Event handlers that put the keys from kopf's streams into a kind's work queue.

Only `on.event`: the other decorators store annotations and finalizers on the objects, and none of ours must
ever hang in deletion.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import kopf

from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.cluster import login
from footplate_operator.runtime.controller import Controller, list_watched
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import Key, controller_of, key_of
from footplate_operator.runtime.watch_liveness import QUIET_SECONDS
from footplate_operator.runtime.watch_session import Counted, Heard, Lean, watch_session
from footplate_operator.runtime.workqueue import Queue

WATCH_SECONDS: Final = 270  # the server ends a watch after this, and a new one begins; whole seconds
RETRY_SECONDS: Final = 1.0  # for ever: after an outage a watch sees again at once
CONNECT_SECONDS: Final = 3.0
_CHUNK: Final = 500
Handler = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(frozen=True, eq=False)
class Handlers:
    """Effects of events on the cache and queue of one kind."""

    controller: Controller[Any, Any, Any]
    cache: Cache
    queue: Queue[Key]
    unseen: set[Kind] = field(default_factory=set)  # hints that this replica may not see

    def watches(self) -> dict[Kind, Handler]:
        """Return the kinds to watch, with their handlers."""
        hints = [kind for kind in self.controller.hints if kind not in self.unseen]
        return {
            self.controller.kind: self._object,
            **{kind: partial(self._child, kind) for kind in list_watched(self.controller.owns)},
            **{kind: partial(self._parameter, kind) for kind in (*self.controller.parameters, *hints)},
        }

    async def _object(self, event: Mapping[str, Any], **_: Any) -> None:
        """Handle an object that was listed, created, changed or deleted."""
        body = _copy(event["object"])
        self.controller.hooks.observe_event(self.controller.kind, body, _gone(event))
        for key in self.controller.neighbours(body, _gone(event)):
            if key in self.cache:
                self.queue.add(key)
        if _gone(event):
            self.cache.drop(body)
        elif not self.cache.put(body):
            return  # as we wrote it ourselves
        # When the operator starts, whoever has ended can wait for those that train.
        listed = event.get("type") is None and self.controller.has_ended(body)
        (self.queue.add_last if listed else self.queue.add)(key_of(body))

    async def _child(self, kind: Kind, event: Mapping[str, Any], **_: Any) -> None:
        """Handle a changed child, of ours or of another kind's."""
        body = self.cache.resolve_owner(_copy(event["object"]))
        owner = controller_of(body)
        if owner.get("kind") == self.controller.kind.name:
            self.controller.hooks.observe_event(kind, body, _gone(event))
        if _gone(event):
            self.cache.doubt_child(kind, body)
        elif owner.get("kind") == self.controller.kind.name or self._is_labelled(body):
            self.cache.put_child(kind, body)
        key = Key(body["metadata"]["namespace"], owner.get("name", ""))
        if key in self.cache:
            self.queue.add(key)

    def _is_labelled(self, body: Json) -> bool:
        return self.controller.uid_label in body["metadata"].get("labels", {})

    async def _parameter(self, kind: Kind, event: Mapping[str, Any], **_: Any) -> None:
        """Handle a new, changed or deleted parameter: objects that wait for it may go on."""
        body = _copy(event["object"])
        add = self.queue.add_last if kind in self.controller.patient else self.queue.add
        for key in self.controller.parameter_changed(kind, body, _gone(event), self.cache.find_keys):
            add(key)


def registry(all_handlers: Iterable[Handlers], heard: Heard, counted: Counted) -> kopf.OperatorRegistry:
    """Return a registry of its own, so that importing this module registers nothing.

    The callbacks `heard` and `counted` receive the answers to the watches.
    """
    own, known = kopf.OperatorRegistry(), list(all_handlers)
    kopf.on.login(registry=own, id="login")(_login(heard, counted, _leanings(known)))
    for number, handlers in enumerate(known):
        for kind, handler in handlers.watches().items():
            kopf.on.event(*_names(kind), registry=own, id=f"{kind.plural}-{number}")(handler)
    return own


def settings(all_handlers: Iterable[Handlers]) -> kopf.OperatorSettings:
    """Return kopf's settings, against its known traps."""
    own = kopf.OperatorSettings()
    own.posting.enabled = False  # it would copy log lines into Events
    own.peering.standalone = True  # the Lease decides
    own.scanning.disabled = True  # no rights on namespaces and CRDs; what we watch is there already
    own.watching.chunk_size = _CHUNK
    own.watching.server_timeout = WATCH_SECONDS  # without these, watches go silent one day
    own.watching.client_timeout = WATCH_SECONDS + 30.0
    own.watching.connect_timeout = own.networking.connect_timeout = CONNECT_SECONDS
    own.watching.inactivity_timeout = QUIET_SECONDS
    for kind in {kind for handlers in all_handlers for kind in list_watched(handlers.controller.owns)}:
        own.watching.label_selectors[_names(kind)] = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
    own.networking.request_timeout = 60.0
    own.networking.error_backoffs = itertools.repeat(RETRY_SECONDS)
    own.queueing.idle_timeout = 1.0  # one task per object that was ever seen is too many
    return own


def _leanings(all_handlers: Iterable[Handlers]) -> Mapping[str, Lean]:
    """Return, by a cluster-scoped kind's URL path, the functions that reduce its listed objects."""
    return {
        kind.path(""): partial(handlers.controller.hooks.trim, kind)
        for handlers in all_handlers
        for kind in (*handlers.controller.parameters, *handlers.controller.hints)
    }


def _login(heard: Heard, counted: Counted, leanings: Mapping[str, Lean]) -> Handler:
    """Return a login handler like our own client's; kopf calls it again on a 401, so it pauses."""
    waits = itertools.chain([0.0], itertools.repeat(RETRY_SECONDS))

    async def log_in(**_: Any) -> kopf.AiohttpSession:
        await asyncio.sleep(next(waits))
        known = await login()
        session = watch_session(known, heard, counted, leanings)
        return kopf.AiohttpSession(server=known.host, aiohttp_session=session)

    return log_in


def _names(kind: Kind) -> tuple[str, str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version, kind.plural


def _gone(event: Mapping[str, Any]) -> bool:
    return event.get("type") == "DELETED"


def _copy(body: Mapping[str, Any]) -> Json:
    """Return a shallow copy with metadata of its own: kopf retains the event."""
    return {**body, "metadata": dict(body["metadata"])}
