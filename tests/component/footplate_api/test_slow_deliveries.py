"""Deliveries that take their time take nobody else's: what shares a commit, and what follows a failed one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from footplate_api.db.database import ANSWER_SECONDS, Database, WriteSession
from footplate_api.errors import DatabaseUnavailable
from footplate_api.instruments import ApiMetrics
from footplate_api.metrics import telemetry
from footplate_api.metrics.telemetry import ParsedBatch
from footplate_api.settings import with_driver
from footplate_api.telemetry.ingest import ENTRIES_A_SECOND, MOST_ENTRIES, SMALL_ENTRIES, Ingest
from tests.component.footplate_api.builders import batch, checkpoint, row
from tests.component.footplate_api.patient_database import PatientDatabase
from tests.component.footplate_api.postgres import Server
from tests.component.footplate_api.test_gone import stored, storing

GENERATION = {"epoch": 1, "number": 1}


class Noting(PatientDatabase):
    """Notes for how many entries each write has been given time."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.entries: list[int] = []

    @asynccontextmanager
    async def write(self, seconds: float | None = ANSWER_SECONDS) -> AsyncIterator[WriteSession]:
        assert seconds is not None
        self.entries.append(round((seconds - ANSWER_SECONDS) * ENTRIES_A_SECOND))
        async with super().write(seconds) as session:
            yield session


def delivery(uid: str, body: dict[str, Any]) -> ParsedBatch:
    return telemetry.parse_batch("research", uid, json.dumps(body).encode())


def rows(uid: str, *steps: int) -> ParsedBatch:
    return delivery(uid, batch(uid, map(row, steps)))


def checkpoints(uid: str, count: int, removals: bool) -> ParsedBatch:
    gone = [{"step": step, "generation": GENERATION, "time": 2.0} for step in range(count)]
    body = batch(uid, checkpoints=() if removals else map(checkpoint, range(count)))
    return delivery(uid, {**body, "removals": gone if removals else []})


async def committed(url: str, *deliveries: ParsedBatch) -> list[int]:
    """Entries of each commit, in order, of deliveries that came together."""
    database = Noting(url)
    ingest = Ingest(database, ApiMetrics())
    async with storing(ingest):
        await asyncio.gather(*map(ingest.store, deliveries))
    await database.close()
    return database.entries


@pytest.mark.parametrize("removals", [False, True], ids=["checkpoints", "removals"])
async def test_many_checkpoints_are_no_small_delivery(database_url: str, removals: bool) -> None:
    many = [checkpoints(uid, 1000, removals) for uid in "abc"]
    assert await committed(database_url, *many, rows("d", 1)) == [1, 2000, 1000]


async def test_small_deliveries_share_a_commit_up_to_a_bound(database_url: str) -> None:
    steps = range(1, SMALL_ENTRIES + 1)
    found = await committed(database_url, *(rows(f"run-{number}", *steps) for number in range(40)))
    assert sum(found) == 40 * SMALL_ENTRIES
    assert found[0] == MOST_ENTRIES // SMALL_ENTRIES * SMALL_ENTRIES


async def test_a_large_delivery_that_nothing_goes_with_is_taken(database_url: str) -> None:
    assert await committed(database_url, rows("a", *range(MOST_ENTRIES + 2)), rows("b", 1)) == [1, 2002]


async def test_one_that_waits_for_a_lock_takes_no_other_with_it(postgres: Server) -> None:
    database = Database(with_driver(postgres.remembered()))
    ingest = Ingest(database, ApiMetrics())
    runs = ("locked", "a", "b")
    async with storing(ingest):
        for uid in runs:
            await ingest.store(rows(uid, 1))
        async with database.write(60.0) as session:
            await session.execute(text("SELECT id FROM metric_segments WHERE run_uid = 'locked' FOR UPDATE"))
            sent = (ingest.store(rows(uid, 2)) for uid in runs)
            locked, *others = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(locked, DatabaseUnavailable)
        assert others == [None, None]
        assert await stored(database) == {"locked": 1, "a": 2, "b": 2}
        await ingest.store(rows("locked", 2))
    await database.close()
