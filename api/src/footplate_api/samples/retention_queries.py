"""Queries of sample retention: numbers of steps and bytes, and deletion."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select

from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.models.metric import MetricSegment
from footplate_api.models.sample import StepSample


async def count_by_run(session: ReadSession, after: str, limit: int) -> list[tuple[str, int, int]]:
    """Return (run, steps, bytes) of at most `limit` runs above `after`, in order."""
    runs = (
        select(MetricSegment.run_uid)
        .where(MetricSegment.run_uid > after)
        .distinct()
        .order_by(MetricSegment.run_uid)
        .limit(limit)
    ).subquery()
    segment, row = MetricSegment, StepSample
    statement = (
        select(runs.c.run_uid, func.count(row.step), func.coalesce(func.sum(row.bytes), 0))
        .join_from(runs, segment, segment.run_uid == runs.c.run_uid)
        .outerjoin(row, (row.segment_id == segment.id) & (row.place == 0))
        .group_by(runs.c.run_uid)
        .order_by(runs.c.run_uid)
    )
    return [(run, int(steps), int(size)) for run, steps, size in await session.execute(statement)]


async def list_steps(session: ReadSession, run: str) -> list[tuple[int, int]]:
    """Return (segment, step) of all steps of a run that have samples."""
    row, segment = StepSample, MetricSegment
    statement = (
        select(row.segment_id, row.step)
        .join_from(segment, row, (row.segment_id == segment.id) & (row.place == 0))
        .where(segment.run_uid == run)
    )
    return [(key, step) for key, step in await session.execute(statement)]


async def remove(session: WriteSession, segment: int, steps: Sequence[int]) -> None:
    """Delete the samples of these steps."""
    row = StepSample
    await session.execute(delete(row).where(row.segment_id == segment, row.step.in_(steps)))
