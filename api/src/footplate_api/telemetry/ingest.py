"""Writer of all telemetry, which commits waiting batches together.

A commit waits for the disk whatever its size, so a fleet that sends a row a second from each of a thousand
runs cannot have one commit for each batch. Deliveries that arrive within a few milliseconds share one; their
receipts follow the commit. Small deliveries go first, and larger ones have half of the time and commits of
their own: runs that send an hour's rows after an outage must not delay those that train.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

from footplate_api.checkpoints import repository as checkpoints
from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.db.database import ANSWER_SECONDS, Database, WriteSession
from footplate_api.errors import ApiError, DatabaseUnavailable, Invalid, RunMismatch, catch
from footplate_api.http import bodies
from footplate_api.instruments import ApiMetrics
from footplate_api.metrics import storage, telemetry
from footplate_api.metrics.batch_intervals import BatchIntervals
from footplate_api.metrics.telemetry import ParsedBatch
from footplate_api.registry import repository as runs
from footplate_contracts.reports import TelemetryReceipt

GATHER_SECONDS: Final = 0.01  # for more deliveries to come, before a commit
# Entries are rows, checkpoints and removals.
SMALL_ENTRIES: Final = 64  # a delivery with no more goes before larger ones
MOST_ENTRIES: Final = 2000  # of one commit, unless a single delivery has more: what a small one waits for
# That any database stores. One that is slower than a request's time would never take a large delivery, and
# its sender would bring it again for good.
ENTRIES_A_SECOND: Final = 1000
STILL_THERE_SECONDS: Final = 0.25  # for a database that took too long to show that it answers
ALONE_SECONDS: Final = 0.5  # for a delivery that is stored again after it took too long with others

log = logging.getLogger(__name__)


@dataclass
class _Waiting:
    delivery: ParsedBatch
    stored: asyncio.Future[None]


@dataclass
class LargeBatchSchedule:
    """Schedule of large deliveries: half of the time, so that the writer is free for small ones."""

    _from: float = 0.0  # seconds of the caller's clock

    def is_due(self, now: float) -> bool:
        """Return whether large deliveries may be stored at `now`."""
        return now >= self._from

    def record_run(self, started: float, ended: float) -> None:
        """Leave the writer to small deliveries for as long as large ones took from `started` to `ended`."""
        self._from = ended + (ended - started)


@dataclass
class Ingest:
    """Background task that stores deliveries; any number of requests may call `store`."""

    database: Database
    metrics: ApiMetrics
    pace: BatchIntervals = field(default_factory=BatchIntervals)
    _small: deque[_Waiting] = field(default_factory=deque)
    _large: deque[_Waiting] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: LargeBatchSchedule = field(default_factory=LargeBatchSchedule)  # of larger deliveries

    def __post_init__(self) -> None:
        self.metrics.ingest_waiting.set_function(lambda: len(self._small) + len(self._large))

    async def receive(self, sender: CoordinatorPod, body: bytes) -> TelemetryReceipt:
        """Store the batch in `body`, of the sender's run; raises what is wrong with it."""
        parse = partial(telemetry.parse_batch, sender.namespace, sender.name)
        delivery = await bodies.parsed(body, parse)
        check(sender, delivery)
        await self.store(delivery)
        return TelemetryReceipt(
            rows=delivery.count,
            checkpoints=len(delivery.checkpoints),
            gather_seconds=self.pace.gather_seconds(delivery.run_uid, time.monotonic()),
        )

    async def store(self, delivery: ParsedBatch) -> None:
        """Wait until `delivery` is durable; raises what is wrong with it, or with the database."""
        waiting = _Waiting(delivery, asyncio.get_running_loop().create_future())
        (self._small if delivery.entries <= SMALL_ENTRIES else self._large).append(waiting)
        self._news.set()
        await waiting.stored

    async def run(self) -> None:
        """Store deliveries until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_SECONDS)
            await self._commit(_taken(self._small))
            started = time.monotonic()
            if self._large and self._turn.is_due(started):
                await self._commit(_taken(self._large))
                self._turn.record_run(started, time.monotonic())
            if not self._small and not self._large:
                self._news.clear()

    async def _commit(self, some: Sequence[_Waiting], timeout: float = ANSWER_SECONDS) -> None:
        if not some:
            return
        entries = sum(waiting.delivery.entries for waiting in some)
        refused: Sequence[ApiError | None] = ()

        async def store() -> None:
            nonlocal refused
            async with self.database.write(timeout + entries / ENTRIES_A_SECOND) as session:
                refused = await store_batches(session, [waiting.delivery for waiting in some])

        match await catch(store):
            case None:
                self._settle(some, refused)
            case DatabaseUnavailable() as error:
                if len(some) > 1 and isinstance(error.__cause__, TimeoutError) and await self._still_there():
                    await self._smallest_first(some, error)
                else:
                    self._settle(some, [error] * len(some))
            case error:
                await self._apart(some, error)

    async def _still_there(self) -> bool:
        """Return whether the database answers in time; waiting for a silent one would delay all errors."""
        asked = asyncio.create_task(self.database.ping())
        asked.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody else may look
        try:
            answered, _ = await asyncio.wait([asked], timeout=STILL_THERE_SECONDS)
        finally:
            asked.cancel()  # its connection goes back at once
        return bool(answered) and asked.exception() is None

    async def _smallest_first(self, some: Sequence[_Waiting], error: DatabaseUnavailable) -> None:
        """Store deliveries one by one, smallest first, so that a slow or locked one does not fail all others.

        Together they have the time of one request; the senders of the rest retry.
        """
        until = time.monotonic() + ANSWER_SECONDS
        for waiting in sorted(some, key=lambda waiting: waiting.delivery.entries):
            if time.monotonic() < until:
                await self._commit([waiting], ALONE_SECONDS)
            else:
                self._settle([waiting], [error])

    async def _apart(self, some: Sequence[_Waiting], error: Exception) -> None:
        """Store deliveries one by one, so that one that cannot be stored does not fail the others."""
        if len(some) == 1:
            log.error("telemetry of %s failed", some[0].delivery.run_uid, exc_info=error)
            self._settle(some, [ApiError("Unexpected error; the log of the API has its traceback.")])
            return
        for waiting in some:
            await self._commit([waiting])

    def _settle(self, some: Sequence[_Waiting], refused: Sequence[ApiError | None]) -> None:
        for waiting, refusal in zip(some, refused, strict=True):
            if refusal is None:
                self.metrics.ingested_rows.inc(waiting.delivery.count)
                self.metrics.ingested_points.inc(waiting.delivery.points)
            if waiting.stored.done():
                continue
            if refusal is None:
                waiting.stored.set_result(None)
            else:
                waiting.stored.set_exception(refusal)


def _taken(queue: deque[_Waiting]) -> list[_Waiting]:
    """Remove and return the oldest waiting deliveries that fit one commit, without cancelled ones."""
    some: list[_Waiting] = []
    entries = 0
    while queue and (not some or entries + queue[0].delivery.entries <= MOST_ENTRIES):
        waiting = queue.popleft()
        if not waiting.stored.done():
            some.append(waiting)
            entries += waiting.delivery.entries
    return some


async def store_batches(session: WriteSession, deliveries: Sequence[ParsedBatch]) -> list[ApiError | None]:
    """Store `deliveries`, of runs that the mirror may not have seen; return each one's error, or None."""
    refused = await storage.store_telemetry(session, deliveries)
    stored = [delivery for delivery, refusal in zip(deliveries, refused, strict=True) if refusal is None]
    await checkpoints.store_checkpoints(
        session, [(taken.run_uid, record) for taken in stored for record in taken.checkpoints]
    )
    await checkpoints.mark_removed(
        session, [(taken.run_uid, gone) for taken in stored for gone in taken.removals]
    )
    await storage.store_dropped(session, stored)
    await _move_ends(session, stored)
    return refused


async def _move_ends(session: WriteSession, stored: Sequence[ParsedBatch]) -> None:
    """Move the estimated ends of missing runs to the times of their newest rows."""
    guessed = await runs.find_estimated_ends(session, {delivery.run_uid for delivery in stored})
    lived = {
        delivery.run_uid: time
        for delivery in stored
        if delivery.run_uid in guessed and (time := delivery.last_time) is not None
    }
    for uid, time in sorted(lived.items()):
        await runs.extend_estimated_end(session, uid, datetime.fromtimestamp(time, UTC))


def check(sender: CoordinatorPod, delivery: ParsedBatch) -> None:
    """Raise RunMismatch or Invalid for a delivery that this coordinator cannot have.

    No part of a delivery is of a later epoch than the whole: telemetry.check ensures that.
    """
    if delivery.run_uid != sender.run_uid:
        raise RunMismatch(
            f"body.runUid: {delivery.run_uid!r} is not the uid of the run {sender.namespace}/{sender.name}"
        )
    if delivery.epoch > sender.epoch:
        raise Invalid.field(
            "body.epoch", delivery.epoch, f"must be at most the epoch of the sending pod, {sender.epoch}"
        )
