"""Queries on the metric history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, and_, case, func, select

from footplate_api.db.database import ReadSession
from footplate_api.metrics.spans import Span, spans_of, texts_of
from footplate_api.metrics.step_ranges import Extent, Extents, Segment, SegmentRange
from footplate_api.models.base import table_of
from footplate_api.models.metric import (
    DroppedTelemetryCount,
    MetricExtent,
    MetricRow,
    MetricSegment,
    MetricValueName,
)

_ROWS: Final = table_of(MetricRow)


def _end(segment: Any, step: Any, order: Any) -> Any:
    """Return `step` of the first extent of `segment` in this order: one descent of the tree."""
    return select(step).where(MetricExtent.segment_id == segment).order_by(order).limit(1).scalar_subquery()


def _last(segment: Any) -> Any:
    return _end(segment, MetricExtent.last_step, MetricExtent.first_step.desc())


_FIRST: Final = _end(MetricSegment.id, MetricExtent.first_step, MetricExtent.first_step)
_LAST: Final = _last(MetricSegment.id)


async def segments(session: ReadSession, uids: Iterable[str]) -> dict[str, list[Segment]]:
    """Return run -> the stored steps of each of its generations."""
    segment = MetricSegment
    statement = (
        select(segment.run_uid, segment.id, segment.epoch, segment.number, _FIRST, _LAST)
        .where(segment.run_uid.in_(list(uids)))
        .order_by(segment.id)
    )
    found: dict[str, list[Segment]] = {}
    for uid, key, epoch, number, first, last in await session.execute(statement):
        if first is not None:
            found.setdefault(uid, []).append(Segment(key, epoch, number, first, last))
    return found


async def extents(session: ReadSession, ranges: Sequence[SegmentRange], most: int) -> Extents:
    """Return which steps of `ranges` have rows, from the first on, with at most `most` extents."""
    spans = spans_of(session, [(part.segment.id, part.first, part.last) for part in ranges])
    extent = MetricExtent
    of_span = extent.segment_id == spans.c.segment
    earlier = of_span & (extent.first_step <= spans.c.low)
    # Of the extents that begin earlier only the last one may reach into the range.
    first = select(func.max(extent.first_step)).where(earlier).correlate(spans).scalar_subquery()
    later = of_span & extent.first_step.between(spans.c.low, spans.c.high)
    last = select(extent.first_step).where(later).order_by(extent.first_step).offset(most).limit(1)
    within = and_(
        of_span,
        extent.first_step >= func.coalesce(first, spans.c.low),
        extent.first_step <= func.coalesce(last.correlate(spans).scalar_subquery(), spans.c.high),
        extent.last_step >= spans.c.low,
    )
    begin = case((extent.first_step < spans.c.low, spans.c.low), else_=extent.first_step)
    statement = (
        select(extent.segment_id, extent.first_step, extent.last_step, begin)
        .join_from(spans, extent, within)
        .order_by(begin, spans.c.place)
        .limit(most + 1)
    )
    found = (await session.execute(statement)).all()
    of: dict[int, list[Extent]] = {}
    for segment, *ends, _ in found:
        of.setdefault(segment, []).append((ends[0], ends[1]))
    return Extents(of, found[-1][-1] - 1 if len(found) > most else None)


async def rows(
    session: ReadSession, ranges: Sequence[SegmentRange], columns: Sequence[str]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return (segment, step, *columns) of all rows of `ranges`, in order of steps, then of ranges."""
    spans = spans_of(session, [(part.segment.id, part.first, part.last) for part in ranges])
    statement = _selected(columns).join_from(spans, _ROWS, _within(spans))
    return (await session.execute(statement.order_by(_ROWS.c.step, spans.c.place))).all()


async def last_rows(
    session: ReadSession, spans: Sequence[Span], columns: Sequence[str]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return (segment, step, *columns) of the last row of each span, in their order.

    Each is one descent of the tree, however many rows the span has.
    """
    asked = spans_of(session, spans)
    last = select(func.max(_ROWS.c.step)).where(_within(asked)).correlate(asked).scalar_subquery()
    on = (_ROWS.c.segment_id == asked.c.segment) & (_ROWS.c.step == last)
    return (
        await session.execute(_selected(columns).join_from(asked, _ROWS, on).order_by(asked.c.place))
    ).all()


async def newest_positions(session: ReadSession, uids: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """Return run -> segment and step of the last row of its newest generation, for runs that have rows."""
    runs, segment = texts_of(session, uids), MetricSegment
    newest = (
        select(segment.id)
        .where(segment.run_uid == runs.c.text, _LAST.is_not(None))
        .order_by(segment.epoch.desc(), segment.number.desc())
        .limit(1)
        .correlate(runs)
        .scalar_subquery()
    )
    # Materialized, or PostgreSQL looks for the newest one again wherever the segment is named.
    found = select(runs.c.text, newest.label("segment")).cte("newest").prefix_with("MATERIALIZED")
    statement = select(found, _last(found.c.segment)).where(found.c.segment.is_not(None))
    return {uid: (key, last) for uid, key, last in await session.execute(statement)}


async def rows_at(
    session: ReadSession, places: Mapping[str, tuple[int, int]], columns: Sequence[str]
) -> Mapping[str, tuple[Any, ...]]:
    """Return run -> `columns` of the row at its segment and step. A stored row never changes."""
    uids = {place: uid for uid, place in places.items()}
    spans = spans_of(session, [(key, step, step) for key, step in uids])
    on = (_ROWS.c.segment_id == spans.c.segment) & (_ROWS.c.step == spans.c.low)
    asked = select(_ROWS.c.segment_id, _ROWS.c.step, *(_ROWS.c[name] for name in columns))
    found = await session.execute(asked.join_from(spans, _ROWS, on))
    return {uids[row[0], row[1]]: row[2:] for row in found}


async def last_time(session: ReadSession, uid: str) -> float | None:
    """Return the newest time of the last rows of a run's generations, in seconds since 1970; None without."""
    known = (await segments(session, [uid])).get(uid, [])
    found = await last_rows(
        session, [(segment.id, segment.last, segment.last) for segment in known], ["time"]
    )
    return max((row.time for row in found if row.time is not None), default=None)


async def value_names(session: ReadSession, uid: str) -> dict[int, str]:
    """Return number -> name of the further numbers of a run."""
    statement = select(MetricValueName.number, MetricValueName.name).where(MetricValueName.run_uid == uid)
    found = await session.execute(statement.order_by(MetricValueName.number))
    return {row.number: row.name for row in found}


async def dropped_counts(session: ReadSession, uids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return run -> entries that the API refused, entries that overflowed an outbox, for runs with any."""
    table, runs = DroppedTelemetryCount, texts_of(session, uids)
    statement = (
        select(table.run_uid, func.sum(table.refused), func.sum(table.overflowed))
        .where(table.run_uid.in_(select(runs.c.text)))
        .group_by(table.run_uid)
    )
    return {uid: (int(refused), int(over)) for uid, refused, over in await session.execute(statement)}


def _selected(columns: Sequence[str]) -> Select[*tuple[Any, ...]]:
    chosen = [name for name in columns if name not in ("segment_id", "step")]
    return select(_ROWS.c.segment_id, _ROWS.c.step, *(_ROWS.c[name] for name in chosen))


def _within(spans: Any) -> Any:
    return (_ROWS.c.segment_id == spans.c.segment) & _ROWS.c.step.between(spans.c.low, spans.c.high)
