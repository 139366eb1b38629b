"""Queries on attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, or_, select, update

from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.models.base import batches, upsert
from footplate_api.models.run import AttemptRow

_KEY: Final = ("run_uid", "number", "resource_version")
_SAID: Final = [column for column in AttemptRow.__table__.columns if column.name not in _KEY]


async def store_attempts(
    session: WriteSession, rows: Sequence[Mapping[str, Any]], listed: int | None = None
) -> None:
    """Insert or update attempts, one row each; ignore what an older status reports.

    Rows from a list of version `listed` are treated as in registry.repository.store_runs.
    """

    def renews(new: Any) -> ColumnElement[bool]:
        later = new.resource_version > AttemptRow.resource_version
        if listed is not None:
            of_this_list = and_(
                AttemptRow.resource_version <= listed, AttemptRow.resource_version != new.resource_version
            )
            later = or_(later, of_this_list)
        # Twenty attempts come with every status, and all but the last are as they were.
        return and_(later, or_(*(column.is_distinct_from(new[column.name]) for column in _SAID)))

    statement = upsert(session, AttemptRow, renews)
    in_order = sorted(rows, key=lambda row: (row["run_uid"], row["number"]))
    for bite in batches(in_order):
        await session.execute(statement, bite)


async def forget_versions(session: WriteSession, above: int) -> None:
    """Reset versions above `above`, of a timeline that has ended: any status may correct these attempts."""
    await session.execute(
        update(AttemptRow).where(AttemptRow.resource_version > above).values(resource_version=0)
    )


async def newest_first(
    session: ReadSession, run_uid: str, before: int | None, limit: int
) -> Sequence[AttemptRow]:
    """Return at most `limit` attempts, newest first, with numbers below `before` if it is set."""
    statement = select(AttemptRow).where(AttemptRow.run_uid == run_uid)
    if before is not None:
        statement = statement.where(AttemptRow.number < before)
    return (await session.scalars(statement.order_by(AttemptRow.number.desc()).limit(limit))).all()


async def starts(session: ReadSession, run_uid: str) -> Sequence[tuple[int, datetime]]:
    """Return (number, start) of the attempts that have a start, ordered by number."""
    statement = select(AttemptRow.number, AttemptRow.start).where(AttemptRow.run_uid == run_uid)
    rows = await session.execute(statement.order_by(AttemptRow.number))
    return [(number, start) for number, start in rows if start is not None]


async def missing_ranges(session: ReadSession, run_uid: str) -> Sequence[tuple[int, int]]:
    """Return (first, last) of each range of missing numbers below the newest attempt, ascending."""
    before = func.lag(AttemptRow.number, 1, 0).over(order_by=AttemptRow.number)
    known = select(AttemptRow.number, before.label("before")).where(AttemptRow.run_uid == run_uid).subquery()
    gaps = select(known.c.before + 1, known.c.number - 1).where(known.c.number - known.c.before > 1)
    return [(first, last) for first, last in await session.execute(gaps.order_by(known.c.number))]
