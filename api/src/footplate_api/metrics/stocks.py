"""Queries of retention: how many rows there are, and which go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import delete, func, select, text, update

from footplate_api import lenient
from footplate_api.database import ReadSession, WriteSession
from footplate_api.metrics import repository
from footplate_api.metrics.lineage import Extent
from footplate_api.models.metric import MetricExtent, MetricRow, MetricSegment

WINDOW: Final = 10_000  # steps that one transaction looks at
# What a row of fifteen numbers takes with its place in the tree, as bench/api/history.py measures it.
ROW_BYTES: Final = {"sqlite": 190, "postgresql": 250}


@dataclass(frozen=True)
class StoredSegment:
    """A segment, with how far it was thinned."""

    id: int
    run_uid: str
    extents: tuple[Extent, ...]
    kept_every: int
    thinned_to: int

    @property
    def steps(self) -> int:
        """That were ever stored."""
        return sum(last - first + 1 for first, last in self.extents)


async def segments(session: ReadSession, after: int, limit: int) -> list[StoredSegment]:
    """At most `limit` segments whose id is above `after`, in order."""
    chosen = (
        select(MetricSegment).where(MetricSegment.id > after).order_by(MetricSegment.id).limit(limit)
    ).subquery()
    statement = (
        select(
            chosen.c.id,
            chosen.c.run_uid,
            chosen.c.kept_every,
            chosen.c.thinned_to,
            MetricExtent.first_step,
            MetricExtent.last_step,
        )
        .join(MetricExtent, MetricExtent.segment_id == chosen.c.id)
        .order_by(chosen.c.id, MetricExtent.first_step)
    )
    extents: dict[tuple[int, str, int, int], list[Extent]] = {}
    for segment, run, every, to, first, last in await session.execute(statement):
        extents.setdefault((segment, run, every, to), []).append((first, last))
    return [
        StoredSegment(segment, run, tuple(found), every, to)
        for (segment, run, every, to), found in extents.items()
    ]


async def last_times(session: ReadSession, segments: Sequence[StoredSegment]) -> dict[str, datetime]:
    """Run -> the newest time of the last rows of its `segments`, of those that have one."""
    runs = {segment.id: segment.run_uid for segment in segments}
    lasts = [(segment.id, segment.extents[-1][1], segment.extents[-1][1]) for segment in segments]
    found: dict[str, datetime] = {}
    for row in await repository.thinned(session, lasts, ["time"]):
        time = lenient.instant(row.time)
        if time is not None:
            run = runs[row.segment_id]
            found[run] = max(time, found.get(run, time))
    return found


def windows(segment: StoredSegment, every: int) -> Iterator[tuple[Extent, list[int]]]:
    """Steps of which only multiples of `every` stay, a bite at a time, and the others that stay."""
    unchanged = segment.thinned_to if every <= segment.kept_every else 0
    for first, last in segment.extents:
        for low in range(max(first, unchanged + 1), last + 1, WINDOW):
            high = min(low + WINDOW - 1, last)
            yield (low, high), [last] if high == last else []


async def thin(
    session: WriteSession, segment: StoredSegment, window: Extent, every: int, stay: Sequence[int]
) -> None:
    """Deletes the rows of a window but multiples of `every`, and `stay`."""
    row = MetricRow
    await session.execute(
        delete(row).where(
            row.segment_id == segment.id,
            row.step.between(*window),
            row.step % every != 0,
            row.step.not_in(stay),
        )
    )


async def note_thinned(session: WriteSession, segment: StoredSegment, every: int) -> None:
    """Notes that `thin` has been everywhere, unless another replica has thinned more, or further."""
    row, last = MetricSegment, segment.extents[-1][1]
    await session.execute(
        update(row)
        .where(row.id == segment.id, row.kept_every <= every, row.thinned_to <= last)
        .values(kept_every=every, thinned_to=last)
    )


async def drop(session: WriteSession, segments: Sequence[int]) -> None:
    """Deletes segments with all that belongs to them; whoever adds to one at the moment is waited for."""
    await session.execute(delete(MetricSegment).where(MetricSegment.id.in_(segments)))
    for table in (MetricExtent, MetricRow):
        await session.execute(delete(table).where(table.segment_id.in_(segments)))


async def other_bytes(session: ReadSession, rows: int) -> int:
    """What all tables but that of the metric rows take, of which there are `rows`."""
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
