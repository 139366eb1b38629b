"""Queries on samples, and on their numbers and bytes, which retention limits."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select

from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.metrics.spans import Span, spans_of
from footplate_api.models.metric import MetricSegment, StepSample


async def steps(
    session: ReadSession, spans: Sequence[Span], prompt: int | None, limit: int
) -> list[tuple[int, int]]:
    """Return (segment, step) of the newest steps within `spans` that have samples, of `prompt` if given."""
    asked, row = spans_of(session, spans), StepSample
    on = (row.segment_id == asked.c.segment) & row.step.between(asked.c.low, asked.c.high)
    chosen = row.place == 0 if prompt is None else row.prompt == prompt
    statement = (
        select(row.segment_id, row.step)
        .join_from(asked, row, on)
        .where(chosen)
        .distinct()
        .order_by(row.step.desc())
        .limit(limit)
    )
    return [(segment, step) for segment, step in await session.execute(statement)]


async def of_steps(
    session: ReadSession, places: Sequence[tuple[int, int]], prompt: int | None
) -> Sequence[StepSample]:
    """Return the samples of these (segment, step), newest step first, then in the order they were shown."""
    asked, row = spans_of(session, [(segment, step, step) for segment, step in places]), StepSample
    on = (row.segment_id == asked.c.segment) & (row.step == asked.c.low)
    statement = select(row).join_from(asked, row, on).order_by(row.step.desc(), row.place)
    if prompt is not None:
        statement = statement.where(row.prompt == prompt)
    return (await session.scalars(statement)).all()


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
