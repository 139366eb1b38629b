"""A sender that goes away while its batch waits: all of it is stored or nothing, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from footplate_api.app import create_app
from footplate_api.app_context import AppContext
from footplate_api.db.database import ANSWER_SECONDS, Database, WriteSession
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.metrics import telemetry
from footplate_api.metrics.telemetry import ParsedBatch
from footplate_api.telemetry.ingest import SMALL_ENTRIES, Ingest
from tests.component.footplate_api.builders import RUNS, batch, coordinator, eventually, row
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.patient_database import PatientDatabase
from tests.component.footplate_api.threaded import served
from tests.support.review_server import BEARER, FakeReviewer

LARGE = 300  # rows, of which the body is a long one

assert LARGE > SMALL_ENTRIES


class Gated(PatientDatabase):
    """Writers commit while its gate is open."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.before = asyncio.Event()  # somebody is about to commit
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def write(self, seconds: float | None = ANSWER_SECONDS) -> AsyncIterator[WriteSession]:
        async with super().write(seconds) as session:
            yield session
            self.before.set()
            await self.gate.wait()

    async def close_gate(self) -> None:
        self.gate.clear()
        self.before.clear()

    async def open_gate(self) -> None:
        self.gate.set()


@pytest_asyncio.fixture
async def gated(database_url: str) -> AsyncIterator[Gated]:
    opened = Gated(database_url)
    yield opened
    await opened.close()


@asynccontextmanager
async def storing(ingest: Ingest) -> AsyncIterator[None]:
    """The writer runs for the block."""
    writer = asyncio.create_task(ingest.run())
    yield
    writer.cancel()
    with suppress(asyncio.CancelledError):
        await writer


def body(uid: str, rows: int) -> bytes:
    return json.dumps(batch(uid, [row(step) for step in range(1, rows + 1)])).encode()


def delivery(uid: str, rows: int) -> ParsedBatch:
    return telemetry.parse_batch("research", uid, body(uid, rows))


async def left(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def stored(database: Database) -> dict[str, int]:
    """Run -> rows."""
    counted = "SELECT run_uid, count(*) AS rows FROM metric_rows JOIN metric_segments s ON s.id = segment_id"
    async with database.read() as session:
        found = await session.execute(text(f"{counted} GROUP BY run_uid"))
        return {row.run_uid: row.rows for row in found}


@pytest.mark.parametrize("rows", [1, LARGE])
async def test_who_left_before_the_writer_came_brings_nothing(gated: Gated, rows: int) -> None:
    ingest = Ingest(gated, ApiMetrics())
    sent = {uid: asyncio.create_task(ingest.store(delivery(uid, rows))) for uid in ("a", "gone", "b")}
    await asyncio.sleep(0)
    await left(sent.pop("gone"))
    async with storing(ingest):
        await asyncio.gather(*sent.values())
        assert await stored(gated) == {"a": rows, "b": rows}


@pytest.mark.parametrize("rows", [1, LARGE])
async def test_who_leaves_as_it_is_stored_has_it_stored(gated: Gated, rows: int) -> None:
    ingest = Ingest(gated, ApiMetrics())
    await gated.close_gate()
    async with storing(ingest):
        sent = {uid: asyncio.create_task(ingest.store(delivery(uid, rows))) for uid in ("a", "gone")}
        await gated.before.wait()
        await left(sent.pop("gone"))
        await gated.open_gate()
        await sent["a"]
        await ingest.store(delivery("later", rows))
        assert await stored(gated) == {"a": rows, "gone": rows, "later": rows}


@pytest.mark.parametrize("rows", [1, LARGE])
async def test_a_request_that_is_broken_off_gives_its_room_back_at_once(gated: Gated, rows: int) -> None:
    context = AppContext(gated, FakeCluster(), FakeReviewer(), ApiMetrics(), MirrorHealth())
    app = create_app(context)
    admission = app.state.admission
    async with app.router.lifespan_context(app), caller(httpx.ASGITransport(app)) as client:
        await context.startup.wait()
        senders = {uid: await coordinator(context, uid, uid) for uid in ("gone", "later")}
        await gated.close_gate()
        sending = asyncio.create_task(post(client, "gone", rows, senders))
        await gated.before.wait()
        await eventually(lambda: asyncio.sleep(0, admission.small.used + admission.large.used), bool)
        await left(sending)
        assert (admission.small.used, admission.large.used) == (0, 0)
        await gated.open_gate()
        assert await post(client, "later", rows, senders) == 200
        found = await stored(gated)
    assert found.pop("gone", rows) == rows and found == {"later": rows}


@pytest.mark.parametrize("rows", [1, LARGE])
async def test_a_connection_that_ends_keeps_its_room_until_its_batch_is_stored(
    gated: Gated, rows: int
) -> None:
    async with served(AppContext(gated, FakeCluster(), FakeReviewer(), ApiMetrics(), MirrorHealth())) as api:
        senders = {uid: await api.do(coordinator(api.context, uid, uid)) for uid in ("gone", "later")}
        await api.do(gated.close_gate())
        sending = asyncio.create_task(post(api.client, "gone", rows, senders))
        lane = api.admission.limit_for(len(body("gone", rows)))
        await eventually(lambda: asyncio.sleep(0, lane.used), bool)
        await left(sending)
        await api.do(gated.open_gate())
        await eventually(lambda: asyncio.sleep(0, lane.used), lambda used: used == 0)
        assert await post(api.client, "later", rows, senders) == 200
        found = await api.do(stored(gated))
    assert found.pop("gone", rows) == rows and found == {"later": rows}


def caller(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, base_url="http://api", headers=BEARER)


async def post(client: httpx.AsyncClient, uid: str, rows: int, senders: Mapping[str, dict[str, str]]) -> int:
    headers = {"Content-Type": "application/json", **senders[uid]}
    answer = await client.post(f"{RUNS}/{uid}/telemetry", content=body(uid, rows), headers=headers)
    return answer.status_code
