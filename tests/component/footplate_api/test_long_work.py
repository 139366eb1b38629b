"""What is longest takes its time: answers to put together, batches to store."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from sqlalchemy import text

from footplate_api.db.database import Database
from footplate_api.metrics import packed_values
from footplate_api.metrics.schemas import MOST_CELLS
from footplate_api.settings import with_driver
from tests.component.footplate_api.builders import batch, eventually, row
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.postgres import Server
from tests.component.footplate_api.telemetry import GPT, created, history, sent

ROWS = 50_000
NUMBERS = 48  # further ones, of each row

_SEGMENT = "INSERT INTO metric_segments (id, run_uid, epoch, number) VALUES (1, :uid, 1, 1)"
_EXTENT = "INSERT INTO metric_extents (segment_id, first_step, last_step) VALUES (1, 1, :rows)"
_NAMES = """
    INSERT INTO metric_names (run_uid, number, name)
    SELECT :uid, n, 'x' || n FROM generate_series(0, :last) n
"""
_ROWS = """
    INSERT INTO metric_rows (segment_id, step, tokens, sample_digest, time, loss, gradient_norm, further)
    SELECT 1, s, s, 'd', s, s / 3.0, s / 7.0, :packed FROM generate_series(1, :rows) s
"""


async def stored(api: Api, uid: str) -> None:
    packed = packed_values.pack({number: number / 3 for number in range(NUMBERS)})
    async with api.context.database.write(60.0) as session:
        await session.execute(text(_SEGMENT), {"uid": uid})
        await session.execute(text(_EXTENT), {"rows": ROWS})
        await session.execute(text(_NAMES), {"uid": uid, "last": NUMBERS - 1})
        await session.execute(text(_ROWS), {"packed": packed, "rows": ROWS})


async def test_the_longest_history_is_answered_in_pages_of_so_many_cells(postgres: Server) -> None:
    async with running(with_driver(postgres.remembered()), FakeCluster()) as api:
        await stored(api, await created(api))
        found = await history(api, limit=ROWS)
        rest = await history(api, limit=ROWS, cursor=found["nextCursor"])
    columns = 9 + NUMBERS  # step, generation, and those that are never absent
    assert len(found["step"]) == MOST_CELLS // columns < ROWS
    assert found["step"] + rest["step"] == list(range(1, ROWS + 1)) and "nextCursor" not in rest
    assert len(found["values"]) == len(rest["values"]) == NUMBERS


async def test_so_many_histories_wait_for_their_turn_and_the_others_are_told_to_come_back(api: Api) -> None:
    await created(api)
    turns = api.histories
    async with AsyncExitStack() as taken:
        for number in range(turns.at_once):
            await taken.enter_async_context(turns.acquire(f"user-{number}"))
        turns.most, turns.seconds = 1, 60.0
        first = asyncio.create_task(history(api))
        await eventually(lambda: asyncio.sleep(0, turns.waiting), lambda waiting: waiting == 1)
        answer = await api.client.get(f"{GPT}/metrics")
        assert (answer.status_code, answer.json()["title"]) == (503, "Too many history queries")
        assert answer.headers["Retry-After"] == "5"
        turns.most, turns.seconds = 2, 0.0
        assert "Other history queries take long" in (await api.client.get(f"{GPT}/metrics")).json()["detail"]
    assert (await first)["step"] == [] and turns.waiting == 0


async def test_a_large_batch_is_stored_by_a_database_that_is_slow(postgres: Server) -> None:
    url, cluster = with_driver(postgres.remembered()), FakeCluster()
    async with running(url, cluster) as api:
        uid = await created(api)
        await sent(api, batch(uid, [row(1)]))
    async with running(url, cluster, database=Database) as api:
        async with api.context.database.write(60.0) as session:
            await session.execute(text("SELECT id FROM metric_segments FOR UPDATE"))
            sending = asyncio.create_task(sent(api, batch(uid, [row(step) for step in range(2, 4002)])))
            await asyncio.sleep(2.5)
        assert (await sending)["rows"] == 4000
