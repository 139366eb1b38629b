"""Thousands of runs are listed again and again: nothing blocks the event loop, nothing is written twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy import event as on

from footplate_api.db.database import Database
from footplate_api.kubernetes import http as kubernetes_http
from footplate_api.kubernetes.client import EventType, WatchEvent
from footplate_api.models.run import RunRow
from footplate_api.registry import repository
from footplate_api.runs import service
from footplate_api.runs.schemas import EXAMPLE
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.crowd import Crowd, serving
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import following, mirror, running, step_of
from tests.support.loop_lag import loop_lag

LONGEST_BITE = 0.1  # seconds of CPU
ATTEMPTS = [{"number": number, "start": "2026-11-25T10:00:00Z"} for number in range(1, 4)]


@contextmanager
def writes() -> Iterator[Counter[str]]:
    """How many statements wrote to each table."""
    counted: Counter[str] = Counter()

    def count(_c: Any, _cursor: Any, statement: str, _p: Any, _context: Any, _many: bool) -> None:
        words = statement.replace('"', "").split()
        if words[0] in ("INSERT", "UPDATE"):
            counted[words[2] if words[0] == "INSERT" else words[1]] += 1

    on.listen(Engine, "before_cursor_execute", count)
    try:
        yield counted
    finally:
        on.remove(Engine, "before_cursor_execute", count)


@pytest.mark.any_database
@pytest.mark.parametrize("runs", [3_000, pytest.param(30_000, marks=pytest.mark.long)])
async def test_thousands_of_runs_block_nothing_and_are_written_once(
    database: Database, tmp_path: Path, runs: int
) -> None:
    crowd = Crowd(runs)
    with serving(crowd, tmp_path) as kubeconfig:
        client = await kubernetes_http.connect(kubeconfig, in_pod=False)
        watcher = mirror(database, client)
        async with loop_lag() as first:
            await watcher.list()
        async with loop_lag() as again:
            with writes() as written:
                await watcher.list()
        assert written == {"installation": 1}
        assert (crowd.gets, crowd.wholes) == (
            0,
            -(-runs // kubernetes_http.PAGE),
        )  # a list of all is read once
        crowd.change(7)
        crowd.remove(range(100, 130))
        async with loop_lag() as little:
            await watcher.list()
        await client.close()
    assert (crowd.gets, crowd.wholes) == (1, -(-runs // kubernetes_http.PAGE))
    changed, gone = [await shown(database, number) for number in (7, 100)]
    assert (changed.resource_version, gone.deleted_at is not None) == (runs + 1, True)
    longest = (first.longest, again.longest, little.longest)
    print("longest bites, in seconds of CPU:", *(f"{seconds:.3f}" for seconds in longest))
    assert max(longest) < LONGEST_BITE


async def shown(database: Database, number: int) -> RunRow:
    async with database.read() as session:
        run = await repository.by_uid(session, f"00000000-0000-4000-8000-{number:012x}")
    assert run is not None
    return run


async def test_a_status_that_changes_writes_no_spec(database: Database) -> None:
    kubernetes = FakeCluster()
    watcher = mirror(database, kubernetes)
    await kubernetes.put("research", "gpt", dict(EXAMPLE["spec"]), running(1, attempts=ATTEMPTS))
    await watcher.list()
    changed = await kubernetes.put("research", "gpt", status=running(2, attempts=ATTEMPTS))
    with writes() as written:
        await watcher.apply([WatchEvent(EventType.MODIFIED, changed)])
    assert (await step_of(database, "gpt"), written["runs"], written["run_specs"]) == (2, 1, 0)
    labelled = await kubernetes.put("research", "gpt", metadata={"labels": {"team": "a"}})
    with writes() as written:
        await watcher.apply([WatchEvent(EventType.MODIFIED, labelled)])
    assert written["run_specs"] == 1
    async with database.read() as session:
        shown = await service.detail(session, "research", "gpt", None, former_namespaces=False)
    assert (shown.labels, shown.spec) == ({"team": "a"}, EXAMPLE["spec"])


async def test_events_are_gathered_before_they_are_written(database: Database) -> None:
    kubernetes = FakeCluster()
    watcher = mirror(database, kubernetes)
    watcher.gather_seconds = 0.25
    with writes() as written:
        async with following(watcher):
            await eventually(lambda: asyncio.sleep(0, kubernetes.lists), bool)
            for step in range(1, 101):
                await kubernetes.put("research", "gpt", status=running(step))
            await eventually(lambda: step_of(database, "gpt"), lambda step: step == 100)
    assert written["runs"] < 20
