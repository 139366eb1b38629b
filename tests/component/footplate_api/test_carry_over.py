"""Rows of the release before come into the history, also those that it writes in a roll-out."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import insert, select, update

from footplate_api.background.legacy_rows import BITE, LegacyRowTask
from footplate_api.database import Database
from footplate_api.metrics import repository
from footplate_api.metrics.step_ranges import Extents, effective_ranges
from footplate_api.models.legacy_tables import STEP_METRICS
from tests.component.footplate_api.builders import newest_row


def former(uid: str, step: int, number: int) -> dict[str, Any]:
    return {
        "run_uid": uid,
        "step": step,
        "epoch": 1,
        "number": number,
        "time": float(step),
        "loss": None,
        "tokens": 7,
        "sample_digest": "d",
        "memory_bytes": 5,
    }


async def write(database: Database, rows: list[dict[str, Any]]) -> None:
    async with database.write() as session:
        await session.execute(insert(STEP_METRICS), rows)


async def carried(database: Database) -> list[int]:
    """Rows of each bite until none is left."""
    pipeline, bites = LegacyRowTask(database), [1]
    while bites[-1]:
        bites.append(await pipeline.move_batch())
    return bites[1:]


async def test_all_rows_are_carried_over_once(database: Database) -> None:
    await write(database, [former("a", step, 1 if step < 1500 else 2) for step in range(1, BITE + 1)])
    await write(database, [former("b", 9, 3)])
    assert await carried(database) == [BITE, 1, 0]
    async with database.read() as session:
        found = await repository.segments(session, ["a", "b"])
        history = {
            uid: [(s.first, s.last) for s in effective_ranges(segments)] for uid, segments in found.items()
        }
        assert history == {"a": [(1, 1499), (1500, BITE)], "b": [(9, 9)]}
        assert (await session.execute(select(STEP_METRICS))).all() == []
    newest = await newest_row(database, "b")
    assert (newest.step, newest.loss, newest.tokens, newest.memory_bytes) == (9, None, 7, 5)


async def test_what_a_former_release_writes_meanwhile_follows(database: Database) -> None:
    await write(database, [former("a", 1, 1)])
    assert await carried(database) == [1, 0]
    await write(database, [former("a", 2, 1)])
    assert await carried(database) == [1, 0]
    async with database.read() as session:
        [segment] = (await repository.segments(session, ["a"]))["a"]
        found = await repository.extents(session, effective_ranges([segment]), 10)
    assert found == Extents({segment.id: [(1, 2)]})


async def test_what_a_former_release_trains_again_meanwhile_is_not_lost(database: Database) -> None:
    await write(database, [former("a", 1, 1)])
    async with database.write(60.0) as session:
        await session.execute(update(STEP_METRICS).values(number=2, tokens=8))
        biting = asyncio.create_task(LegacyRowTask(database).move_batch())
        await asyncio.sleep(0.5)  # it has read the row as it was, and waits to delete it
    await biting
    await carried(database)
    assert (await newest_row(database, "a")).tokens == 8
