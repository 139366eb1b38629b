"""One kind at work: its queue, its cache, and what brings its objects nearer to their specs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from footplate_operator.runtime.actor import Actor
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.controller import Controller
from footplate_operator.runtime.handlers import Handlers
from footplate_operator.runtime.objects import Key
from footplate_operator.runtime.reconcile import Reconciler
from footplate_operator.runtime.status_writer import StatusWriter
from footplate_operator.runtime.workqueue import Queue


@dataclass(frozen=True)
class Loop:
    """The parts that outlive a reconciliation."""

    controller: Controller[Any, Any, Any]
    cache: Cache
    handlers: Handlers
    reconciler: Reconciler[Any, Any, Any]


def new_loop(
    controller: Controller[Any, Any, Any],
    cluster: Cluster,
    queue: Queue[Key],
    now: Callable[[], datetime],
    resync_seconds: float,
    identity: str,
) -> Loop:
    """A loop that knows of no object yet. `now` is a clock in UTC, `identity` this replica's name."""
    cache = Cache(controller)
    actor = Actor(controller, cluster, cache)
    writer = StatusWriter(controller, cluster, cache, queue, now, identity)
    reconciler = Reconciler(controller, cluster, cache, queue, actor, writer, now, resync_seconds)
    return Loop(controller, cache, Handlers(controller, cache, queue), reconciler)
