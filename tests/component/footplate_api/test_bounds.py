"""What one run may have stored beside its rows: checkpoints' records and generations have a bound."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, insert, select

from footplate_api.checkpoints.repository import KEPT, PAGE_CHARACTERS
from footplate_api.db.database import WORK_SECONDS
from footplate_api.metrics.retention import GENERATIONS
from footplate_api.metrics.storage import GENERATIONS_HELD
from footplate_api.metrics.telemetry import GENERATIONS_AT_ONCE
from footplate_api.models.metric import MetricExtent, MetricRow, MetricSegment
from footplate_api.models.run import CheckpointRow
from footplate_api.tasks.retention import RetentionTask
from tests.component.footplate_api.builders import batch, checkpoint, row
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.telemetry import GPT, created, sent

RECORD = {"uri": "/c", "time": 1.0, "bytes": 1, "seconds_blocked": 0.0, "seconds_total": 0.0}


async def records(api: Api, uid: str, steps: range, **fields: Any) -> None:
    """Checkpoints as they may lie in the database."""
    async with api.context.database.write(WORK_SECONDS) as session:
        rows = [{**RECORD, **fields, "run_uid": uid, "step": step} for step in steps]
        await session.execute(insert(CheckpointRow), rows)


async def segments(api: Api, uid: str, numbers: range) -> None:
    """Generations of the first epoch, the rows of which were thinned."""
    async with api.context.database.write(WORK_SECONDS) as session:
        made = [{"run_uid": uid, "epoch": 1, "number": number} for number in numbers]
        await session.execute(insert(MetricSegment), made)
        known = MetricSegment
        extents = select(known.id, known.number, known.number.label("last_step")).where(
            known.run_uid == uid, known.number.between(numbers[0], numbers[-1])
        )
        columns = ["segment_id", "first_step", "last_step"]
        await session.execute(insert(MetricExtent).from_select(columns, extents))


async def refusal(api: Api, body: dict[str, Any]) -> list[str]:
    """The fields for which a batch of the run gpt is refused."""
    headers = await api.coordinator(body["runUid"])
    answer = await api.client.post(f"{GPT}/telemetry", json=body, headers=headers)
    assert answer.status_code == 422, answer.text
    return [wrong["field"] for wrong in answer.json()["errors"]]


@pytest.mark.parametrize("length", [1089, 100_000])
async def test_a_place_has_a_length(api: Api, length: int) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [], [{**checkpoint(1), "uri": "x" * 1088}]))
    wrong = batch(uid, [], [checkpoint(2), {**checkpoint(3), "uri": "x" * length}])
    assert await refusal(api, wrong) == ["body.checkpoints[1].uri"]


async def test_a_digest_has_a_length(api: Api) -> None:
    long = row(2)
    long["metrics"]["sampleDigest"] = "0" * 65
    assert await refusal(api, batch(await created(api), [long])) == ["body.rows[0].metrics.sampleDigest"]


async def test_the_oldest_records_that_were_removed_go_first(api: Api) -> None:
    uid = await created(api)
    await records(api, uid, range(1, KEPT - 1), removed_at=None)
    await records(api, uid, range(KEPT - 1, KEPT + 1), removed_at=2.0)
    await sent(api, batch(uid, [], [checkpoint(step) for step in range(KEPT + 1, KEPT + 4)]))
    async with api.context.database.read() as session:
        left = (await session.scalars(select(CheckpointRow.step).order_by(CheckpointRow.step))).all()
    assert left == [*range(2, KEPT - 1), *range(KEPT + 1, KEPT + 4)]


async def test_a_page_of_checkpoints_has_a_size(api: Api) -> None:
    uid = await created(api)
    await records(api, uid, range(1, 4), uri="x" * (PAGE_CHARACTERS // 2))
    await records(api, uid, range(4, 5), uri="x" * (PAGE_CHARACTERS + 1))
    pages, cursor = [], None
    while not pages or cursor is not None:
        query = {} if cursor is None else {"cursor": cursor}
        part = (await api.client.get(f"{GPT}/checkpoints", params=query)).json()
        pages.append([item["step"] for item in part["items"]])
        cursor = part["nextCursor"]
    assert pages == [[4], [3, 2], [1]]


async def test_a_batch_is_of_so_many_generations(api: Api) -> None:
    uid = await created(api)
    rows = [row(number, (1, number)) for number in range(1, GENERATIONS_AT_ONCE + 2)]
    assert await refusal(api, batch(uid, rows)) == ["body.rows"]
    assert (await sent(api, batch(uid, rows[1:])))["rows"] == GENERATIONS_AT_ONCE


async def test_a_run_has_so_many_generations(api: Api) -> None:
    uid = await created(api)
    await segments(api, uid, range(1, GENERATIONS_HELD))
    last = GENERATIONS_HELD
    two = [row(last, (1, last)), row(last + 1, (1, last + 1))]
    assert await refusal(api, batch(uid, two)) == ["body.rows"]
    await sent(api, batch(uid, two[:1]))
    assert await refusal(api, batch(uid, two[1:])) == ["body.rows"]
    assert (await sent(api, batch(uid, [row(last + 1, (1, last))])))["rows"] == 1


async def test_of_more_generations_than_are_kept_the_oldest_go(api: Api) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [row(step, (1, 1)) for step in range(1, 201)]))
    await segments(api, uid, range(2, GENERATIONS + 2))
    newest = GENERATIONS + 2
    await sent(api, batch(uid, [row(2 * newest, (1, newest))]))
    await RetentionTask(api.context.database, api.context.now).enforce()
    known = MetricSegment
    numbers = select(func.min(known.number), func.max(known.number), func.count()).where(known.run_uid == uid)
    async with api.context.database.read() as session:
        assert tuple((await session.execute(numbers)).one()) == (3, newest, GENERATIONS)
        assert (await session.scalars(select(MetricRow.step))).all() == [2 * newest]
        assert await session.scalar(select(func.count()).select_from(MetricExtent)) == GENERATIONS
    assert (await sent(api, batch(uid, [row(2 * newest + 1, (1, newest + 1))])))["rows"] == 1
