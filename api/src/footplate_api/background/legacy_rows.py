"""Moves metric rows out of the previous release's table, a few thousand at a time.

A migration would move millions of rows in one transaction, while the API could not start. And in a roll-out,
a former release that still runs continues to write there for a while.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select, tuple_

from footplate_api.database import WORK_SECONDS, Database
from footplate_api.errors import ApiError
from footplate_api.metrics import storage
from footplate_api.metrics.telemetry import STORED, Generation, ParsedBatch, TelemetryRow
from footplate_api.models.legacy_tables import STEP_METRICS

BITE: Final = 2000  # rows
FIRST_SECONDS: Final = 2.0
AGAIN_SECONDS: Final = 60.0  # to look whether a former release has written more
PAUSE_SECONDS: Final = 0.05  # between bites: others write, too

log = logging.getLogger(__name__)


@dataclass
class LegacyRowTask:
    """Background task that moves rows of the former table."""

    database: Database

    async def run(self) -> None:
        """Move rows until cancelled, beginning shortly after the start."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                carried = await self.move_batch()
            except ApiError as error:
                log.warning("rows of a former release wait: %s", error.detail)
                carried = 0
            except Exception:  # the edge of the task: nobody would start it again
                log.exception("rows of a former release cannot be carried over")
                carried = 0
            await asyncio.sleep(PAUSE_SECONDS if carried else AGAIN_SECONDS)

    async def move_batch(self) -> int:
        """Move some rows; return how many.

        A row that a former release replaces meanwhile, by a newer generation's, stays for the next call.
        """
        order = (STEP_METRICS.c.run_uid, STEP_METRICS.c.step)
        read = (*order, STEP_METRICS.c.epoch, STEP_METRICS.c.number)
        statement = select(STEP_METRICS).order_by(*order)
        async with self.database.read(WORK_SECONDS) as session:
            if (await session.execute(statement.limit(1))).first() is None:
                return 0  # as a rule: nobody has to wait for a write of nothing
        async with self.database.write(WORK_SECONDS) as session:
            found = (await session.execute(statement.limit(BITE))).all()
            rows: dict[str, dict[Generation, list[TelemetryRow]]] = {}
            for former in found:
                # That release knew fewer columns than this one.
                columns = tuple(former._mapping.get(name) for name in STORED)
                rows.setdefault(former.run_uid, {}).setdefault((former.epoch, former.number), []).append(
                    TelemetryRow(columns)
                )
            await storage.store(
                session, [ParsedBatch("", "", uid, 0, generations) for uid, generations in rows.items()]
            )
            gone = [(former.run_uid, former.step, former.epoch, former.number) for former in found]
            if gone:
                await session.execute(delete(STEP_METRICS).where(tuple_(*read).in_(gone)))
            return len(found)
