"""Gauges of the database's size and free space, updated periodically."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import func, select, text

from footplate_api.db.database import Database, ReadSession
from footplate_api.instruments import ApiMetrics

LOOK_SECONDS: Final = 30.0
_VOLUME, _ROOM = "volume", "room"  # by its disk, or as much as an administrator allows


@dataclass
class DatabaseSizeTask:
    """Updater of the gauges; `room` is the limit of RetentionTask."""

    database: Database
    metrics: ApiMetrics
    room: int | None = None

    async def look(self) -> None:
        """Set the gauges; raises DatabaseUnavailable."""
        async with self.database.read() as session:
            taken, unused = await _sizes(session)
        self.metrics.database_bytes.set(taken)
        if self.room is not None:
            self.metrics.database_free_bytes.labels(_ROOM).set(max(0, self.room - taken + unused))
        path = self.database.engine.url.database
        if self.database.engine.dialect.name == "sqlite" and path is not None:
            free = (await asyncio.to_thread(shutil.disk_usage, Path(path).parent)).free
            self.metrics.database_free_bytes.labels(_VOLUME).set(free + unused)


async def _sizes(session: ReadSession) -> tuple[int, int]:
    """Return the database's size and the reusable part of it, in bytes."""
    if session.get_bind().dialect.name == "postgresql":
        whole = select(func.pg_database_size(func.current_database()))
        return int((await session.execute(whole)).scalar_one()), 0
    pages = text(
        "SELECT c.page_count * s.page_size, f.freelist_count * s.page_size"
        " FROM pragma_page_count c, pragma_freelist_count f, pragma_page_size s"
    )
    taken, unused = (await session.execute(pages)).one()
    return int(taken), int(unused)
