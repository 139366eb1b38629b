"""Old histories are thinned, then deleted; what a run ended with stays."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from footplate_api.metrics import retention_queries
from footplate_api.metrics.retention import RetentionLimits
from footplate_api.models.metric import MetricRow
from footplate_api.models.run import RunRow
from footplate_api.tasks.retention import RetentionTask
from tests.component.footplate_api.builders import batch, row
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.telemetry import created, history, sent
from tests.component.footplate_api.test_bounds import records

NOW = datetime(2027, 1, 1, tzinfo=UTC)
LIMITS = RetentionLimits(rows_per_run=1000, full=timedelta(days=30), rows_after=25, kept=timedelta(days=365))


async def look(api: Api, limits: RetentionLimits = LIMITS, room: int | None = None) -> int:
    return await RetentionTask(api.context.database, lambda: NOW, limits, room).enforce()


async def ended(api: Api, uid: str, days: int) -> None:
    async with api.context.database.write() as session:
        change = {"phase": "Succeeded", "ended_at": NOW - timedelta(days=days)}
        await session.execute(update(RunRow).where(RunRow.uid == uid).values(**change))


async def rows(api: Api, uid: str, steps: Iterable[int], generation: tuple[int, int] = (1, 1)) -> None:
    await sent(api, batch(uid, [row(step, generation) for step in steps]))


async def test_a_run_that_ended_lately_stays_whole(api: Api) -> None:
    uid = await created(api)
    await rows(api, uid, range(1, 101))
    await ended(api, uid, 29)
    assert await look(api) == 0
    assert (await history(api))["step"] == list(range(1, 101))


async def test_a_run_that_ended_long_ago_is_thinned_and_has_no_holes_for_that(api: Api) -> None:
    uid = await created(api)
    await rows(api, uid, range(1, 61))
    await rows(api, uid, range(51, 106), (1, 2))
    await ended(api, uid, 31)
    assert await look(api) == 2
    part = await history(api)
    assert part["step"] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 105]
    assert part["generation"] == ["1.1"] * 5 + ["1.2"] * 6
    assert "holes" not in part
    assert await look(api) == 0  # it is thin already


async def test_a_run_that_ended_very_long_ago_keeps_its_last_row(api: Api) -> None:
    uid = await created(api)
    await rows(api, uid, range(1, 31))
    await ended(api, uid, 366)
    await look(api)
    assert (await history(api))["step"] == [30]


async def test_a_run_that_trains_may_grow_and_is_thinned_up_to_where_it_is(api: Api) -> None:
    uid = await created(api)
    await rows(api, uid, range(1, 1201))
    assert await look(api) == 1
    await rows(api, uid, range(1201, 1301))
    assert (await history(api))["step"] == [*range(2, 1201, 2), *range(1201, 1301)]
    assert await look(api) == 0


async def test_without_room_an_ended_run_keeps_a_tenth_of_what_a_live_one_does(api: Api) -> None:
    uid = await created(api)
    await rows(api, uid, range(1, 1001))
    await ended(api, uid, 1)
    other = await created(api, "other")
    lives = batch(other, [row(step) for step in range(1, 501)])
    headers = await api.coordinator(other, "other")
    await api.client.post("/v1/namespaces/research/runs/other/telemetry", json=lives, headers=headers)
    of_rows = 550 * retention_queries.ROW_BYTES[api.context.database.engine.dialect.name] + 50
    async with api.context.database.read() as session:
        others = await retention_queries.non_metric_bytes(session, 1500)
    # Rows have what others leave of three quarters, and a quarter at least.
    await look(api, room=min(4 * (others + of_rows) // 3, 4 * of_rows))
    assert (await history(api))["step"] == [*range(20, 1001, 20)]
    other_steps = (await api.client.get("/v1/namespaces/research/runs/other/metrics")).json()["step"]
    assert other_steps == list(range(1, 501))


async def test_no_row_is_deleted_for_what_is_none(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    uid = await created(api)
    await rows(api, uid, range(1, 1001))
    await ended(api, uid, 1)
    await records(api, uid, range(1), uri="x" * 4_000_000)
    async with api.context.database.read() as session:
        others = await retention_queries.non_metric_bytes(session, 1000)
    retention = RetentionTask(api.context.database, lambda: NOW, LIMITS, int(1.2 * others))
    said = []
    for room in (retention.room, retention.room, 2 * others):
        retention.room = room
        with caplog.at_level(logging.INFO):
            assert await retention.enforce() == 0
        said.append(retention.metrics.registry.get_sample_value("footplate_api_database_over_quota"))
    assert (await history(api))["step"] == list(range(1, 1001))
    assert said == [1.0, 1.0, 0.0]
    words = [line.levelname for line in caplog.records if "data other than metric rows" in line.message]
    assert words == ["WARNING", "INFO"]


async def test_a_run_that_the_mirror_has_not_seen_is_as_old_as_its_last_row(api: Api) -> None:
    await rows(api, "uid-of-unseen", range(1, 101))
    assert await looked(api, days=1) == list(range(1, 101))
    assert await looked(api, days=31) == [*range(10, 101, 10)]
    assert await looked(api, days=366) == [100]


async def test_a_replica_that_is_behind_does_not_unsay_what_another_one_has_thinned(api: Api) -> None:
    await rows(api, "uid", range(1, 101))
    async with api.context.database.read() as session:
        [behind] = await retention_queries.list_segments(session, 0, 1)
    for every in (10, 2):
        async with api.context.database.write() as session:
            await retention_queries.record_thinning(session, behind, every)
    async with api.context.database.read() as session:
        [known] = await retention_queries.list_segments(session, 0, 1)
    assert (known.kept_every, known.thinned_to) == (10, 100)


async def looked(api: Api, days: int) -> list[int]:
    """The steps of the run that nobody has seen, so long after its last row."""
    now = datetime.fromtimestamp(1_790_000_100, UTC) + timedelta(days=days)
    await RetentionTask(api.context.database, lambda: now, LIMITS, None).enforce()
    async with api.context.database.read() as session:
        return [*(await session.scalars(select(MetricRow.step).order_by(MetricRow.step)))]
