"""Rows with gaps: nothing reads all that there are of them, and retention thins them like others."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from footplate_api.db.database import Database
from footplate_api.metrics import repository, retention_queries, storage
from footplate_api.metrics.retention import RetentionLimits
from footplate_api.metrics.step_ranges import (
    Extent,
    Extents,
    Segment,
    SegmentRange,
    effective_ranges,
    superseded_ranges,
)
from footplate_api.metrics.telemetry import STORED, ParsedBatch, TelemetryRow
from footplate_api.models.metric import MetricRow
from footplate_api.tasks.retention import RetentionTask
from tests.component.footplate_api.builders import newest_row

NOW = datetime(2027, 1, 1, tzinfo=UTC)
_WHOLE = {"tokens": 7, "sample_digest": "d", "time": NOW.timestamp()}
_REST = [_WHOLE.get(name) for name in STORED[1:]]


async def store(database: Database, steps: Iterable[int], generation: tuple[int, int] = (1, 1)) -> None:
    rows = [TelemetryRow((step, *_REST)) for step in steps]
    async with database.write() as session:
        await storage.store_telemetry(session, [ParsedBatch("research", "gpt", "uid", 2, {generation: rows})])


async def segments(database: Database) -> list[Segment]:
    async with database.read() as session:
        return (await repository.segments(session, ["uid"]))["uid"]


async def test_a_segment_is_known_by_its_ends(database: Database) -> None:
    await store(database, [5, 9, 10], (1, 2))
    await store(database, [7, 3], (2, 1))
    ends = [(known.epoch, known.number, known.first, known.last) for known in await segments(database)]
    assert ends == [(1, 2, 5, 10), (2, 1, 3, 7)]


async def test_the_newest_row_is_the_last_one_of_the_newest_generation(database: Database) -> None:
    for steps, generation in (([4, 6], (2, 1)), ([8], (1, 9)), ([2, 5], (2, 2)), ([9], (1, 10))):
        await store(database, steps, generation)
    assert (await newest_row(database, "uid")).step == 5
    async with database.read() as session:
        assert await repository.newest_positions(session, ["nobody"]) == {}


@pytest.mark.parametrize(
    ("first", "last", "most", "extents", "known"),
    [
        pytest.param(0, 95, 20, [(n, n + 1) for n in range(10, 100, 10)], None, id="all"),
        pytest.param(21, 60, 20, [(20, 21), (30, 31), (40, 41), (50, 51), (60, 61)], None, id="of-a-part"),
        pytest.param(21, 60, 5, [(20, 21), (30, 31), (40, 41), (50, 51), (60, 61)], None, id="as-many"),
        pytest.param(21, 60, 4, [(20, 21), (30, 31), (40, 41), (50, 51), (60, 61)], 59, id="one-more"),
        pytest.param(22, 60, 2, [(30, 31), (40, 41), (50, 51)], 49, id="only-the-first"),
        pytest.param(22, 29, 5, [], None, id="none"),
    ],
)
async def test_of_the_extents_those_of_a_part_are_read_and_no_more_than_are_asked_for(
    database: Database, first: int, last: int, most: int, extents: list[Extent], known: int | None
) -> None:
    await store(database, [n + more for n in range(10, 100, 10) for more in (0, 1)])
    [segment] = await segments(database)
    async with database.read() as session:
        found = await repository.extents(session, [SegmentRange(segment, first, last)], most)
    assert found == Extents({segment.id: extents} if extents else {}, known)


async def test_what_is_known_of_the_extents_is_what_all_of_them_say(database: Database) -> None:
    chance, steps = random.Random(7), dict[tuple[int, int], list[int]]()
    for number in range(1, 6):
        steps[1, number] = sorted(chance.sample(range(10 * number, 200), 60))
        await store(database, steps[1, number], (1, number))
    known = await segments(database)
    for parts in (effective_ranges(known), superseded_ranges(known)):
        for most in (1, 7, 40, 1000):
            async with database.read() as session:
                found = await repository.extents(session, parts, most)
            assert (found.known is None) == (most == 1000)
            for part in parts:
                end = part.last if found.known is None else min(part.last, found.known)
                of = steps[part.segment.epoch, part.segment.number]
                shown = [step for begin, last in found.within(part) for step in range(begin, last + 1)]
                assert shown == [step for step in of if part.first <= step <= end]


async def stored(database: Database) -> list[retention_queries.StoredSegment]:
    async with database.read() as session:
        return await retention_queries.list_segments(session, 0, 9)


async def left(database: Database) -> list[int]:
    async with database.read() as session:
        return [*(await session.scalars(select(MetricRow.step).order_by(MetricRow.step)))]


@pytest.mark.parametrize("every", [1, 2, 10, 1 << 62])
async def test_what_is_left_is_counted(database: Database, every: int) -> None:
    chance = random.Random(every)
    for begin in (0, 100, 200):
        await store(database, chance.sample(range(begin, begin + 100), 60))
        [segment] = await stored(database)
        assert segment.steps == 60 + 0.6 * begin
        async with database.write() as session:
            assert (
                await retention_queries.thin(
                    session, segment, retention_queries.thinning_start(segment, every), every
                )
                is None
            )
            await retention_queries.record_thinning(session, segment, every)
        rest = await left(database)
        assert [(known.rows, known.last) for known in await stored(database)] == [(len(rest), rest[-1])]
        assert all(step % every == 0 for step in rest[:-1])
    await store(database, range(300, 350))  # what was the last row before goes, uncounted, with the next look
    assert [known.rows for known in await stored(database)] == [len(rest) + 50 - (rest[-1] % every != 0)]


async def test_thinning_goes_on_where_a_bite_ends(database: Database) -> None:
    await store(database, range(3, 100, 3))
    [segment] = await stored(database)
    begins: list[int | None] = [retention_queries.thinning_start(segment, 10)]
    while (following := begins[-1]) is not None:
        async with database.write() as session:
            begins.append(await retention_queries.thin(session, segment, following, 10, window=4))
    assert begins == [0, 13, 25, 37, 49, 61, 73, 85, 97, None]
    assert await left(database) == [30, 60, 90, 99]


async def test_rows_of_every_tenth_step_are_thinned_as_others_are(database: Database) -> None:
    await store(database, range(5, 3000, 10))
    limits = RetentionLimits(full=timedelta(days=1), rows_after=30, kept=timedelta(days=2))
    assert await RetentionTask(database, lambda: NOW + timedelta(days=3), limits, None).enforce() == 1
    assert await left(database) == [2995]
