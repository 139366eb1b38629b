"""Queries on samples."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from footplate_api.db.database import ReadSession
from footplate_api.metrics.spans import Span, spans_of
from footplate_api.models.sample import StepSample


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
