"""Queries on the metric history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, func, select

from footplate_api.database import ReadSession
from footplate_api.metrics.lineage import Extent, Segment, Stretch, newest
from footplate_api.metrics.spans import Span, spans_of
from footplate_api.models.base import table_of
from footplate_api.models.metric import FurtherName, GivenUpTelemetry, MetricExtent, MetricRow, MetricSegment

_ROWS: Final = table_of(MetricRow)


async def segments(session: ReadSession, uids: Iterable[str]) -> dict[str, list[Segment]]:
    """Run -> what each of its generations has stored."""
    segment, extent = MetricSegment, MetricExtent
    statement = (
        select(
            segment.run_uid, segment.id, segment.epoch, segment.number, extent.first_step, extent.last_step
        )
        .join(extent, extent.segment_id == segment.id)
        .where(segment.run_uid.in_(list(uids)))
        .order_by(segment.id, extent.first_step)
    )
    found: dict[tuple[str, int, int, int], list[Extent]] = {}
    for uid, key, epoch, number, first, last in await session.execute(statement):
        found.setdefault((uid, key, epoch, number), []).append((first, last))
    by_run: dict[str, list[Segment]] = {}
    for (uid, key, epoch, number), extents in found.items():
        by_run.setdefault(uid, []).append(Segment(key, epoch, number, tuple(extents)))
    return by_run


async def rows(
    session: ReadSession, stretches: Sequence[Stretch], columns: Sequence[str]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """(segment, step, *columns) of all rows of `stretches`, in order of steps, then of stretches."""
    spans = spans_of(session, [(part.segment.id, part.first, part.last) for part in stretches])
    statement = _selected(columns).join_from(spans, _ROWS, _within(spans))
    return (await session.execute(statement.order_by(_ROWS.c.step, spans.c.place))).all()


async def thinned(
    session: ReadSession, spans: Sequence[Span], columns: Sequence[str]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """(segment, step, *columns) of the last row of each span, in their order.

    Each is one descent of the tree, however many rows lie in the span.
    """
    asked = spans_of(session, spans)
    last = select(func.max(_ROWS.c.step)).where(_within(asked)).correlate(asked).scalar_subquery()
    on = (_ROWS.c.segment_id == asked.c.segment) & (_ROWS.c.step == last)
    return (
        await session.execute(_selected(columns).join_from(asked, _ROWS, on).order_by(asked.c.place))
    ).all()


async def newest_rows(session: ReadSession, uids: Sequence[str]) -> Mapping[str, Row[*tuple[Any, ...]]]:
    """Run -> the last row of its newest generation, of those that have rows."""
    standing = {uid: newest(found) for uid, found in (await segments(session, uids)).items()}
    spans = {segment.id: (segment.last, uid) for uid, segment in standing.items() if segment is not None}
    last_rows = [(segment, last, last) for segment, (last, _) in spans.items()]
    found = await thinned(session, last_rows, _ROWS.c.keys())
    return {spans[row.segment_id][1]: row for row in found}


async def last_time(session: ReadSession, uid: str) -> float | None:
    """The newest time of any row of a run, in seconds since the Unix epoch; None without rows."""
    known = (await segments(session, [uid])).get(uid, [])
    found = await thinned(session, [(segment.id, segment.last, segment.last) for segment in known], ["time"])
    return max((row.time for row in found if row.time is not None), default=None)


async def names(session: ReadSession, uid: str) -> dict[int, str]:
    """Number -> name of the further numbers of a run."""
    statement = select(FurtherName.number, FurtherName.name).where(FurtherName.run_uid == uid)
    found = await session.execute(statement.order_by(FurtherName.number))
    return {row.number: row.name for row in found}


async def given_up(session: ReadSession, uids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Run -> entries that the API refused, entries that an outbox had no room for, of those with any."""
    table = GivenUpTelemetry
    statement = (
        select(table.run_uid, func.sum(table.refused), func.sum(table.overflowed))
        .where(table.run_uid.in_(uids))
        .group_by(table.run_uid)
    )
    return {uid: (int(refused), int(over)) for uid, refused, over in await session.execute(statement)}


def _selected(columns: Sequence[str]) -> Select[*tuple[Any, ...]]:
    chosen = [name for name in columns if name not in ("segment_id", "step")]
    return select(_ROWS.c.segment_id, _ROWS.c.step, *(_ROWS.c[name] for name in chosen))


def _within(spans: Any) -> Any:
    return (_ROWS.c.segment_id == spans.c.segment) & _ROWS.c.step.between(spans.c.low, spans.c.high)
