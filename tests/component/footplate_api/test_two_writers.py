"""Two replicas that take telemetry of one run at once keep every row, once, and agree on what it names."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from footplate_api.checkpoints import repository as checkpoints
from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.db.database import Database
from footplate_api.instruments import ApiMetrics
from footplate_api.metrics import repository, storage
from footplate_api.metrics.step_ranges import Extents, Segment, SegmentRange
from footplate_api.metrics.telemetry import STORED, ParsedBatch, TelemetryRow
from footplate_api.models.metric import MetricRow
from footplate_api.serialization.schemas import LARGEST
from footplate_api.telemetry.ingest import Ingest
from footplate_contracts.reports import CheckpointRecord, DroppedTelemetry
from tests.component.footplate_api.builders import batch, row
from tests.component.footplate_api.patient_database import PatientDatabase

SENDER = CoordinatorPod("pod", "uid", "research", "gpt", 1)
_WHOLE = {"tokens": 7, "sample_digest": "d"}
_REST = [_WHOLE.get(name) for name in STORED[1:]]


def whole(segment: Segment) -> SegmentRange:
    return SegmentRange(segment, segment.first, segment.last)


def body(chance: random.Random, number: int) -> dict[str, Any]:
    """Some rows of one of two generations, with one of many further numbers each."""
    start = chance.randrange(1, 80)
    rows = [row(step, (1, 1 + number % 2)) for step in range(start, start + 40)]
    for sent in rows:
        sent["metrics"]["values"] = {f"v{chance.randrange(200)}": 1.0}
    return batch("uid", rows)


async def test_two_replicas_store_what_both_are_sent(database_url: str) -> None:
    chance = random.Random(5)
    replicas = [PatientDatabase(database_url) for _ in range(2)]
    writers = [Ingest(replica, ApiMetrics()) for replica in replicas]
    tasks = [asyncio.create_task(writer.run()) for writer in writers]
    bodies = [body(chance, number) for number in range(40)]
    sending = [
        writers[number % 2].receive(SENDER, json.dumps(sent).encode()) for number, sent in enumerate(bodies)
    ]
    await asyncio.gather(*sending)
    all_rows = [known for sent in bodies for known in sent["rows"]]
    sent = {(known["generation"]["number"], known["metrics"]["step"]) for known in all_rows}
    async with replicas[1].read() as session:
        [segments] = (await repository.segments(session, ["uid"])).values()
        extents = (await repository.extents(session, [whole(known) for known in segments], 1000)).of
        stored = {
            (known.number, step)
            for known in segments
            for first, last in extents[known.id]
            for step in range(first, last + 1)
        }
        assert stored == sent
        assert (await session.execute(select(func.count()).select_from(MetricRow))).scalar_one() == len(sent)
        names = await repository.value_names(session, "uid")
    told = {name for known in all_rows for name in known["metrics"]["values"]}
    assert sorted(names.values()) == sorted(told)  # each has one number; some number may be nobody's
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for replica in replicas:
        await replica.close()


async def test_two_replicas_that_are_told_of_checkpoints_in_any_order_do_not_stop_each_other(
    database: Database,
) -> None:
    records = [(f"uid-{run}", CheckpointRecord(step=1, uri="/c", time=1.0)) for run in range(2000)]

    async def told(some: Sequence[tuple[str, CheckpointRecord]]) -> None:
        async with database.write(60.0) as session:
            await checkpoints.store_checkpoints(session, some)

    await asyncio.gather(told(records), told(records[::-1]))


async def test_the_most_that_was_given_up_stands_whichever_delivery_comes_last(database: Database) -> None:
    said = [
        ParsedBatch("research", "gpt", "uid", 1, given_up=DroppedTelemetry(refused=count)) for count in (7, 5)
    ]
    async with database.write() as session:
        await storage.store_dropped(session, said)
    async with database.read() as session:
        assert await repository.dropped_counts(session, ["uid"]) == {"uid": (7, 0)}


async def test_rows_with_gaps_are_joined_by_those_that_lie_between(database: Database) -> None:
    for steps in ([1, 3, 5, 9, LARGEST], [4], [2, 8, LARGEST - 1], [0]):
        rows = [TelemetryRow((step, *_REST)) for step in steps]
        async with database.write() as session:
            await storage.store_telemetry(session, [ParsedBatch("research", "gpt", "uid", 1, {(1, 1): rows})])
    async with database.read() as session:
        [[segment]] = (await repository.segments(session, ["uid"])).values()
        found = await repository.extents(session, [whole(segment)], 10)
    assert found == Extents({segment.id: [(0, 5), (8, 9), (LARGEST - 1, LARGEST)]})
