"""Mirrors under test: a clock set by hand, statuses, and a look at what the table shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from footplate_api.db.database import Database
from footplate_api.errors import RunNotFound
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes.client import EventType, WatchEvent
from footplate_api.mirror.namespaces import NamespaceMirror
from footplate_api.mirror.reflector import Reflector
from footplate_api.mirror.runs import RunMirror
from footplate_api.models.run import RunRow
from footplate_api.registry import lookup
from tests.component.footplate_api.fakes import FakeCluster

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self, time: datetime = NOW) -> None:
        self.time = time

    def __call__(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time


def mirror(
    database: Database,
    cluster: FakeCluster,
    now: Callable[[], datetime] | None = None,
    of: type[RunMirror] = RunMirror,
) -> RunMirror:
    """A mirror that is not running yet."""
    return of(
        cluster,
        database,
        ApiMetrics(),
        MirrorHealth(),
        now or Clock(),
        chance=lambda: 0.0,
        gather_seconds=0.01,
    )


@asynccontextmanager
async def following(mirror: Reflector) -> AsyncIterator[None]:
    """Runs it for the block."""
    task = asyncio.create_task(mirror.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def namespaces(database: Database, cluster: FakeCluster) -> NamespaceMirror:
    """A mirror of namespaces that is not running yet."""
    return NamespaceMirror(
        cluster, database, ApiMetrics(), MirrorHealth(), Clock(), chance=lambda: 0.0, gather_seconds=0.01
    )


async def found(database: Database, name: str, namespace: str = "research") -> RunRow | None:
    """The run as the table shows it."""
    with suppress(RunNotFound):
        async with database.read() as session:
            return await lookup.find(session, namespace, name)
    return None


async def step_of(database: Database, name: str) -> int | None:
    """Its step."""
    run = await found(database, name)
    return None if run is None else run.step


def running(step: int, **more: Any) -> dict[str, Any]:
    """A status that trains."""
    progress = {"step": step, "totalSteps": 100, "tokens": step * 8, "loss": 2.5}
    return {"phase": "Running", "progress": progress, **more}


def event(kind: EventType, version: int, status: dict[str, Any] | None = None) -> WatchEvent:
    """An event of the run `gpt`, whose step is its version unless `status` says otherwise."""
    metadata = {
        "uid": "uid-1",
        "namespace": "research",
        "name": "gpt",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-11-25T10:00:00Z",
    }
    return WatchEvent(kind, {"metadata": metadata, "spec": {}, "status": status or running(version)})
