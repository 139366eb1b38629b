"""Retention of metric rows: checks the limits every few minutes, and deletes in small transactions.

Any number of replicas may do so at once: rows that one has thinned another finds thin.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from footplate_api.creation import idempotency_keys
from footplate_api.db.database import WORK_SECONDS, Database
from footplate_api.instruments import ApiMetrics
from footplate_api.metrics import retention, retention_queries
from footplate_api.metrics.retention import GENERATIONS, DatabaseQuota, RetentionLimits, RunRows
from footplate_api.metrics.retention_queries import ROW_BYTES, StoredSegment
from footplate_api.registry import repository as runs
from footplate_api.tasks import sample_retention

FIRST_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 300.0
PAUSE_SECONDS: Final = 0.05  # between bites: others write, too
_PAGE: Final = 5000  # segments
_BITE: Final = 100  # segments that one transaction removes, and the most rows of each
_UNSEEN: Final = ""  # namespace of runs that the mirror has not seen: they share one part of the room
_NOTHING_LEFT: Final = 1 << 62  # no step is a multiple of it

log = logging.getLogger(__name__)


@dataclass
class RetentionTask:
    """Enforcer of retention."""

    database: Database
    now: Callable[[], datetime]
    limits: RetentionLimits = field(default_factory=RetentionLimits)
    room: int | None = (
        None  # bytes that the database may take; None: as its volume has, where that can be told
    )
    metrics: ApiMetrics = field(default_factory=ApiMetrics)
    _crowded: bool = False  # what is no metric row takes so much that deleting rows would not help

    async def look(self) -> None:
        """Enforce the limits once."""
        await self.enforce()

    async def enforce(self) -> int:
        """Delete expired idempotency keys, thin rows and samples; return the number of thinned segments."""
        async with self.database.write(WORK_SECONDS) as session:
            await idempotency_keys.delete_expired(session, self.now())
        found = await self._segments()
        for run in found:
            await self._drop(found[run][:-GENERATIONS])
            found[run] = found[run][-GENERATIONS:]
        held = await asyncio.to_thread(_rows, found)
        known = await self._stocks(found, held)
        most = await self._most(sum(held.values()))
        allowed = await asyncio.to_thread(retention.row_limits, known, self.limits, most)
        thinned = 0
        for run, keep in allowed.items():
            every = (
                retention.thinning_stride(sum(segment.steps for segment in found[run]), keep) or _NOTHING_LEFT
            )
            for segment in found[run]:
                thinned += await self._thin(segment, every)
        if thinned:
            log.info("rows of %d runs were thinned", len(allowed))
        if of_runs := await sample_retention.thin(self.database, known, self.limits, self._room()):
            log.info("samples of %d runs were thinned", of_runs)
        return thinned

    async def _segments(self) -> dict[str, list[StoredSegment]]:
        found: dict[str, list[StoredSegment]] = {}
        after = 0
        while True:
            async with self.database.read(WORK_SECONDS) as session:
                page = await retention_queries.list_segments(session, after, _PAGE)
            for segment in page:
                found.setdefault(segment.run_uid, []).append(segment)
            if not page:
                return found
            after = page[-1].id

    async def _stocks(self, found: dict[str, list[StoredSegment]], held: dict[str, int]) -> list[RunRows]:
        """Return each run's rows and age; a run unknown to the mirror ended no earlier than its last row."""
        async with self.database.read(WORK_SECONDS) as session:
            ends = await runs.ends(session)
            unseen = [segment for run in found.keys() - ends.keys() for segment in found[run]]
            lasts = await retention_queries.last_times(session, unseen)
        known, now = {run: (_UNSEEN, lasts.get(run)) for run in held} | ends, self.now()
        return [RunRows(run, rows, _age(known[run][1], now), known[run][0]) for run, rows in held.items()]

    async def _most(self, rows: int) -> int | None:
        """Return the number of rows that fit; None without a limit."""
        room = self._room()
        if room is None:
            return None
        async with self.database.read(WORK_SECONDS) as session:
            others = await retention_queries.non_metric_bytes(session, rows)
        of_room = DatabaseQuota(room, others)
        self._say(of_room)
        return of_room.bytes_for_rows // ROW_BYTES[self.database.engine.dialect.name]

    def _say(self, room: DatabaseQuota) -> None:
        """Log once that the rest of the database is too large, and once that it no longer is."""
        if room.is_over_quota and not self._crowded:
            log.warning(
                "of %d bytes, data other than metric rows takes %d: no rows are deleted for that",
                room.whole,
                room.others,
            )
        elif self._crowded and not room.is_over_quota:
            log.info("data other than metric rows leaves space for metric rows again")
        self._crowded = room.is_over_quota
        self.metrics.database_crowded.set(room.is_over_quota)

    def _room(self) -> int | None:
        path = self.database.engine.url.database
        if self.database.engine.dialect.name != "sqlite" or path is None:
            return self.room
        volume = shutil.disk_usage(Path(path).parent).total
        return volume if self.room is None else min(volume, self.room)

    async def _drop(self, surplus: Sequence[StoredSegment]) -> None:
        """Delete the surplus oldest generations of a run, in small transactions."""
        for segment in surplus:
            if segment.steps > _BITE:
                await self._thin(segment, _NOTHING_LEFT)
        for first in range(0, len(surplus), _BITE):
            bite = [segment.id for segment in surplus[first : first + _BITE]]
            async with self.database.write(WORK_SECONDS) as session:
                await retention_queries.delete_segments(session, bite)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _thin(self, segment: StoredSegment, every: int) -> bool:
        every = max(every, segment.kept_every)
        if every == 1 or (every == segment.kept_every and segment.thinned_to >= segment.last):
            return False
        following: int | None = retention_queries.thinning_start(segment, every)
        while following is not None:
            async with self.database.write(WORK_SECONDS) as session:
                following = await retention_queries.thin(session, segment, following, every)
            await asyncio.sleep(PAUSE_SECONDS)
        async with self.database.write(WORK_SECONDS) as session:
            await retention_queries.record_thinning(session, segment, every)
        return True


def _rows(found: dict[str, list[StoredSegment]]) -> dict[str, int]:
    return {run: sum(known.rows for known in segments) for run, segments in found.items()}


def _age(ended_at: datetime | None, now: datetime) -> timedelta | None:
    return None if ended_at is None else now - ended_at
