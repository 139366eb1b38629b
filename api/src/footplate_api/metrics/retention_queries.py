"""Queries of retention: row counts and deletions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import case, delete, func, select, text, update

from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.metrics import repository
from footplate_api.models.metric import MetricExtent, MetricRow, MetricSegment
from footplate_api.serialization import tolerant_json

WINDOW: Final = 10_000  # rows that one transaction looks at
# What a row of fifteen numbers takes with its place in the tree, as bench/api/history.py measures it.
ROW_BYTES: Final = {"sqlite": 190, "postgresql": 250}


@dataclass(frozen=True)
class StoredSegment:
    """A segment, with how far it was thinned."""

    id: int
    run_uid: str
    kept_every: int
    thinned_to: int
    last: int
    steps: int  # that were ever stored
    rows: int  # that are left of them


async def list_segments(session: ReadSession, after: int, limit: int) -> list[StoredSegment]:
    """Return at most `limit` segments whose id is above `after`, in order; the database counts their rows."""
    chosen = (
        select(MetricSegment).where(MetricSegment.id > after).order_by(MetricSegment.id).limit(limit)
    ).subquery()
    known, extent = chosen.c, MetricExtent
    statement = (
        select(
            known.id,
            known.run_uid,
            known.kept_every,
            known.thinned_to,
            func.max(extent.last_step),
            func.sum(extent.last_step - extent.first_step + 1),
            func.sum(_left(known.kept_every, known.thinned_to)),
        )
        .join(extent, extent.segment_id == known.id)
        .group_by(known.id, known.run_uid, known.kept_every, known.thinned_to)
        .order_by(known.id)
    )
    return [
        StoredSegment(key, run, every, to, last, int(steps), int(rows) + (last <= to and last % every != 0))
        for key, run, every, to, last, steps, rows in await session.execute(statement)
    ]


def _left(every: Any, thinned_to: Any) -> Any:
    """Return how many rows of an extent are left: unthinned steps, and the kept multiples of the others."""
    first, last = MetricExtent.first_step, MetricExtent.last_step
    thinned = case((last < thinned_to, last), else_=thinned_to)
    multiples = thinned // every - first // every + case((first % every == 0, 1), else_=0)
    return case(
        (thinned_to < first, last - first + 1),
        else_=last - thinned + multiples,
    )


async def last_times(session: ReadSession, segments: Sequence[StoredSegment]) -> dict[str, datetime]:
    """Return run -> the newest time of the last rows of its `segments`, for runs that have one."""
    runs = {segment.id: segment.run_uid for segment in segments}
    lasts = [(segment.id, segment.last, segment.last) for segment in segments]
    found: dict[str, datetime] = {}
    for row in await repository.last_rows(session, lasts, ["time"]):
        time = tolerant_json.from_timestamp(row.time)
        if time is not None:
            run = runs[row.segment_id]
            found[run] = max(time, found.get(run, time))
    return found


def thinning_start(segment: StoredSegment, every: int) -> int:
    """Return the first step to thin to multiples of `every`: where as coarse a thinning ended, else 0."""
    return segment.thinned_to if every <= segment.kept_every else 0


async def thin(
    session: WriteSession, segment: StoredSegment, begin: int, every: int, window: int = WINDOW
) -> int | None:
    """Delete the next `window` rows from step `begin`, except multiples of `every` and the last one.

    Return the step that follows upon them; None at the end.
    """
    row = MetricRow
    following = (row.segment_id == segment.id) & row.step.between(begin, segment.last)
    ends = select(row.step).where(following).order_by(row.step).offset(window - 1).limit(1)
    end = (await session.execute(ends)).scalar_one_or_none()
    last = segment.last if end is None else end
    await session.execute(
        delete(row).where(
            row.segment_id == segment.id,
            row.step.between(begin, last),
            row.step % every != 0,
            row.step != segment.last,
        )
    )
    return last + 1 if last < segment.last else None


async def record_thinning(session: WriteSession, segment: StoredSegment, every: int) -> None:
    """Record that `thin` has finished, unless another replica has thinned more, or further."""
    row, last = MetricSegment, segment.last
    await session.execute(
        update(row)
        .where(row.id == segment.id, row.kept_every <= every, row.thinned_to <= last)
        .values(kept_every=every, thinned_to=last)
    )


async def delete_segments(session: WriteSession, segments: Sequence[int]) -> None:
    """Delete segments with all that belongs to them, and wait for concurrent writers of them.

    A trigger deletes their samples, as a release that has no samples may delete segments.
    """
    await session.execute(delete(MetricSegment).where(MetricSegment.id.in_(segments)))
    for table in (MetricExtent, MetricRow):
        await session.execute(delete(table).where(table.segment_id.in_(segments)))


async def non_metric_bytes(session: ReadSession, rows: int) -> int:
    """Return the bytes that all tables but the metric rows take; `rows` is the number of these."""
    dialect = session.get_bind().dialect.name
    if dialect == "postgresql":
        of_rows = func.pg_total_relation_size(MetricRow.__tablename__)
        whole = select(func.pg_database_size(func.current_database()) - of_rows)
        return int((await session.execute(whole)).scalar_one())
    pages = text(
        "SELECT (c.page_count - f.freelist_count) * s.page_size"
        " FROM pragma_page_count c, pragma_freelist_count f, pragma_page_size s"
    )
    used = int((await session.execute(pages)).scalar_one())
    return max(0, used - rows * ROW_BYTES[dialect])
