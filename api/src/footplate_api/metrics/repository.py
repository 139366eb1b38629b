"""Queries on the metric history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, or_, select, tuple_

from footplate_api.database import ReadSession, WriteSession
from footplate_api.models.base import upsert
from footplate_api.models.metric import StepMetric
from footplate_contracts.metrics import COLUMNS
from footplate_contracts.reports import GenerationRow


def _null_if_nan(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


async def store(session: WriteSession, run_uid: str, rows: Sequence[GenerationRow]) -> None:
    """Upserts rows under (run, step), at most one a step.

    A newer generation replaces an older one; an older or the same one changes nothing.
    """
    if not rows:
        return
    known = tuple_(StepMetric.epoch, StepMetric.number)
    statement = upsert(session, StepMetric, lambda new: tuple_(new.epoch, new.number) > known)
    await session.execute(statement, [_values(run_uid, row) for row in rows])


def _values(run_uid: str, row: GenerationRow) -> dict[str, Any]:
    key = {"run_uid": run_uid, "epoch": row.generation.epoch, "number": row.generation.number}
    return key | {column.name: _null_if_nan(getattr(row.metrics, column.name)) for column in COLUMNS}


async def last_time(session: ReadSession, run_uid: str) -> float | None:
    """When the newest step that has a time was measured, in seconds since the epoch; None without one."""
    time = StepMetric.__table__.c.time
    statement = select(time).where(StepMetric.run_uid == run_uid, time.is_not(None))
    seconds: float | None = await session.scalar(statement.order_by(StepMetric.step.desc()).limit(1))
    return seconds


async def bounds(session: ReadSession, run_uid: str, first: int, last: int | None) -> tuple[int, int] | None:
    """(first, last) step that exists within the asked ones; None where there is none."""
    statement = select(func.min(StepMetric.step), func.max(StepMetric.step)).where(
        StepMetric.run_uid == run_uid, StepMetric.step >= first
    )
    if last is not None:
        statement = statement.where(StepMetric.step <= last)
    lowest, highest = (await session.execute(statement)).one()
    return None if lowest is None else (lowest, highest)


async def rows(
    session: ReadSession, run_uid: str, first: int, last: int, every: int, limit: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Rows whose step is `last` or a multiple of `every`, in order, at most `limit`."""
    statement = (
        select(*StepMetric.__table__.columns)
        .where(StepMetric.run_uid == run_uid, StepMetric.step.between(first, last))
        .order_by(StepMetric.step)
        .limit(limit)
    )
    if every > 1:
        statement = statement.where(or_(StepMetric.step % every == 0, StepMetric.step == last))
    return (await session.execute(statement)).all()
