"""A write that is broken off leaves no lock behind for which others wait."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text

from footplate_api.db.database import Database
from footplate_api.settings import with_driver

LONG: Final = text(
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000)"
    " INSERT INTO numbers SELECT x FROM n"
)  # it takes a tenth of a second


async def test_a_file_is_free_though_a_statement_of_a_cancelled_write_is_kept(tmp_path: Path) -> None:
    """As a traceback keeps it until cycles are collected."""
    file = tmp_path / "footplate.db"
    database = Database(with_driver(f"sqlite:///{file}"))
    kept: list[object] = []

    async def write() -> None:
        async with database.write() as session:
            await session.execute(text("CREATE TABLE numbers (x INTEGER)"))
            raw = await (await session.connection()).get_raw_connection()
            assert raw.driver_connection is not None
            kept.append(await raw.driver_connection.execute("SELECT 1 UNION SELECT 2"))
            begun.set()
            await session.execute(LONG)

    begun = asyncio.Event()
    writing = asyncio.create_task(write())
    await begun.wait()
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    with closing(sqlite3.connect(file, timeout=1.0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == []
    await database.close()
