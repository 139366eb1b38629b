"""30,000 runs are listed again and again: nothing blocks the event loop, nothing is written twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event as on
from sqlalchemy import text

from footplate_api.database import Database
from footplate_api.ports import EventType, ListPage, WatchEvent
from footplate_api.runs import service
from footplate_api.runs.schemas import EXAMPLE
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import following, found, mirror, running, step_of
from tests.support.loop_lag import loop_lag

RUNS = 30_000
PAGE = 500
LONGEST_BITE = 0.1  # seconds of CPU
ATTEMPTS = [
    {"number": number, "start": "2026-11-25T10:00:00Z", "message": "peer lost " * 20, "node": "node-1"}
    for number in range(1, 4)
]


def manifest(number: int, version: int) -> dict[str, Any]:
    """A run with a spec and a status of real size."""
    return {
        "metadata": {
            "uid": f"00000000-0000-4000-8000-{number:012x}",
            "namespace": f"team-{number % 50}",
            "name": f"run-{number}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-25T10:00:00Z",
        },
        "spec": {**dict(EXAMPLE["spec"]), "stage": "pretrain"},
        "status": running(number, attempts=ATTEMPTS[:1]),
    }


class Crowd(FakeCluster):
    """Answers as the real client does: whatever is parsed is parsed beside the loop."""

    def __init__(self, runs: int) -> None:
        super().__init__()
        self.texts = [json.dumps(manifest(number, number + 1)) for number in range(runs)]

    async def list_runs(self, token: str | None) -> ListPage:
        start = int(token or 0)
        texts = self.texts[start : start + PAGE]
        page = await asyncio.to_thread(json.loads, f"[{','.join(texts)}]")
        following = start + PAGE
        return ListPage(page, str(RUNS), str(following) if following < len(self.texts) else None)


@contextmanager
def writes(database: Database) -> Iterator[Counter[str]]:
    """How many rows were sent to be written to each table, and by `UPDATE`s without a number 1 each."""
    counted: Counter[str] = Counter()

    def count(_c: Any, _cursor: Any, statement: str, _p: Any, _context: Any, _many: bool) -> None:
        words = statement.replace('"', "").split()
        if words[0] in ("INSERT", "UPDATE"):
            counted[words[2] if words[0] == "INSERT" else words[1]] += 1

    on.listen(database.engine.sync_engine, "before_cursor_execute", count)
    try:
        yield counted
    finally:
        on.remove(database.engine.sync_engine, "before_cursor_execute", count)


async def test_thirty_thousand_runs_block_nothing_and_are_written_once(database: Database) -> None:
    cluster = Crowd(RUNS)
    watcher = mirror(database, cluster)
    async with loop_lag() as first:
        await watcher.list()
    async with loop_lag() as again:
        with writes(database) as written:
            await watcher.list()
    assert written == {"installation": 1}
    cluster.texts[7] = json.dumps(manifest(7, RUNS))
    del cluster.texts[100:130]
    async with loop_lag() as little:
        await watcher.list()
    gone = await found(database, "run-100", "team-0")
    assert gone is not None and gone.deleted_at is not None
    print(f"longest bites: {first.longest:.3f}, {again.longest:.3f}, {little.longest:.3f} s of CPU")
    assert max(first.longest, again.longest, little.longest) < LONGEST_BITE


async def test_a_status_that_changes_writes_no_spec(database: Database) -> None:
    cluster = FakeCluster()
    watcher = mirror(database, cluster)
    await cluster.put("research", "gpt", dict(EXAMPLE["spec"]), running(1, attempts=ATTEMPTS))
    await watcher.list()
    changed = await cluster.put("research", "gpt", status=running(2, attempts=ATTEMPTS))
    with writes(database) as written:
        await watcher.apply([WatchEvent(EventType.MODIFIED, changed)])
    assert (await step_of(database, "gpt"), written["runs"], written["run_specs"]) == (2, 1, 0)
    labelled = await cluster.put("research", "gpt", metadata={"labels": {"team": "a"}})
    with writes(database) as written:
        await watcher.apply([WatchEvent(EventType.MODIFIED, labelled)])
    assert written["run_specs"] == 1
    async with database.read() as session:
        shown = await service.detail(session, "research", "gpt", None, former_namespaces=False)
    assert (shown.labels, shown.spec) == ({"team": "a"}, EXAMPLE["spec"])


async def test_events_are_gathered_before_they_are_written(database: Database) -> None:
    cluster = FakeCluster()
    watcher = mirror(database, cluster)
    watcher.gather_seconds = 0.5
    with writes(database) as written:
        async with following(watcher):
            await eventually(lambda: asyncio.sleep(0, cluster.lists), bool)
            for step in range(1, 101):
                await cluster.put("research", "gpt", status=running(step))
            await eventually(lambda: step_of(database, "gpt"), lambda step: step == 100)
    assert written["runs"] <= 3  # the list, and what came while it was on its way


async def test_what_an_earlier_release_wrote_last_is_shown(database: Database) -> None:
    cluster = FakeCluster()
    await cluster.put("research", "gpt", {"stage": "pretrain"})
    await mirror(database, cluster).list()
    async with database.write() as session:
        await session.execute(text("UPDATE runs SET spec = :spec"), {"spec": '{"stage": "sft"}'})
    async with database.read() as session:
        shown = await service.detail(session, "research", "gpt", None, former_namespaces=False)
    assert shown.spec == {"stage": "sft"}
