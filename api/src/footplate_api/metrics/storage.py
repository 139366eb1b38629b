"""Stores batches of telemetry, many in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from operator import itemgetter
from typing import Final

from sqlalchemy import and_, bindparam, delete, func, select, tuple_, update

from footplate_api.db.bulk import insert_missing
from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.errors import ApiError, Invalid
from footplate_api.metrics import packed_values
from footplate_api.metrics import sample_storage as samples
from footplate_api.metrics.retention import GENERATIONS
from footplate_api.metrics.spans import spans_of
from footplate_api.metrics.step_ranges import Extent, merge_steps
from footplate_api.metrics.telemetry import STORED, ParsedBatch, TelemetryRow
from footplate_api.models.base import table_of, upsert
from footplate_api.models.metric import (
    DroppedTelemetryCount,
    MetricExtent,
    MetricRow,
    MetricSegment,
    MetricValueName,
)
from footplate_api.serialization.schemas import LARGEST
from footplate_contracts.metrics import VALUE_NAMES
from footplate_contracts.reports import DroppedTelemetry

SegmentKey = tuple[str, int, int]
"""Run uid, epoch, number."""

# Of a run, until retention has been there, which leaves it half of them.
GENERATIONS_HELD: Final = 2 * GENERATIONS

_SEGMENTS: Final = table_of(MetricSegment)
_ROWS: Final = table_of(MetricRow)
_COLUMNS: Final = ("segment_id", *STORED, "further")


async def store_telemetry(session: WriteSession, deliveries: Sequence[ParsedBatch]) -> list[ApiError | None]:
    """Store the rows of all batches; return for each batch the error that shows only here, or None.

    A row is never changed: an existing row of the same generation and step stays as it is. Two writers of one
    segment wait for each other, in one order for all segments.
    """
    names, refused = await _names(session, deliveries)
    taken = [delivery for delivery, wrong in zip(deliveries, refused, strict=True) if wrong is None]
    keys = {key for delivery in taken for key in _keys(delivery)}
    ids = await _locked(session, sorted(keys)) if keys else {}
    if missing := keys - ids.keys():
        refused = await _with_room(session, deliveries, refused, missing)
    rows: dict[SegmentKey, list[TelemetryRow]] = {}
    for known, refusal in zip(deliveries, refused, strict=True):
        if refusal is None:
            for generation, some in known.rows.items():
                rows.setdefault((known.run_uid, *generation), []).extend(some)
    if rows:
        ids |= await _made(session, sorted(rows.keys() - ids.keys()))
        await _insert(session, rows, ids, names)
        await _extend(session, {ids[key]: [row.step for row in some] for key, some in rows.items()})
    return refused


def _keys(delivery: ParsedBatch) -> list[SegmentKey]:
    return [(delivery.run_uid, *generation) for generation in delivery.rows]


async def _with_room(
    session: ReadSession,
    deliveries: Sequence[ParsedBatch],
    refused: Sequence[ApiError | None],
    missing: Set[SegmentKey],
) -> list[ApiError | None]:
    """Return the error of each batch, with those whose generations would be too many of one run."""
    asked = MetricSegment.run_uid.in_({run for run, _, _ in missing})
    counted = select(MetricSegment.run_uid, func.count()).where(asked).group_by(MetricSegment.run_uid)
    held: dict[str, int] = {}
    held.update((run, number) for run, number in await session.execute(counted))
    found = list(refused)
    for place, delivery in enumerate(deliveries):
        new = 0 if found[place] else sum(key in missing for key in _keys(delivery))
        together = held.get(delivery.run_uid, 0) + new
        if new and together > GENERATIONS_HELD:
            found[place] = Invalid.field(
                "body.rows", f"{new} new generations", f"must have at most {GENERATIONS_HELD} per run"
            )
        elif new:
            held[delivery.run_uid] = together
    return found


async def _made(session: WriteSession, keys: Sequence[SegmentKey]) -> dict[SegmentKey, int]:
    """Insert missing segments; return them locked."""
    if not keys:
        return {}
    await insert_missing(session, _SEGMENTS, ("run_uid", "epoch", "number"), keys)
    return await _locked(session, keys)


async def _locked(session: WriteSession, keys: Sequence[SegmentKey]) -> dict[SegmentKey, int]:
    key = (MetricSegment.run_uid, MetricSegment.epoch, MetricSegment.number)
    statement = (
        select(MetricSegment.id, *key)
        .where(tuple_(*key).in_(keys))
        .order_by(*key)
        .with_for_update()  # SQLite has one writer anyway
    )
    return {(row.run_uid, row.epoch, row.number): row.id for row in await session.execute(statement)}


async def _insert(
    session: WriteSession,
    rows: Mapping[SegmentKey, Sequence[TelemetryRow]],
    ids: Mapping[SegmentKey, int],
    names: Mapping[str, Mapping[str, int]],
) -> None:
    values = []
    for key, some in rows.items():
        segment, numbers = ids[key], names.get(key[0], {})
        for row in some:
            packed = None
            if row.further:
                packed = packed_values.pack({numbers[name]: value for name, value in row.further.items()})
            values.append((segment, *row.columns, packed))
    values.sort(key=itemgetter(0, 1))  # in the order of the tree
    await insert_missing(session, _ROWS, _COLUMNS, values)
    shown = [((ids[key], row.step), row.samples) for key, some in rows.items() for row in some if row.samples]
    await samples.store_samples(session, shown)


async def _extend(session: WriteSession, steps: Mapping[int, Sequence[int]]) -> None:
    """Record which steps the segments have now.

    Only the extents that may grow or join are read: rows with gaps may have any number of extents.
    """
    known: dict[int, list[Extent]] = {segment: [] for segment in steps}
    near = [(segment, min(some) - 1, min(max(some) + 1, LARGEST)) for segment, some in steps.items()]
    spans, extent = spans_of(session, near), MetricExtent
    touched = and_(
        extent.segment_id == spans.c.segment,
        extent.first_step <= spans.c.high,
        extent.last_step >= spans.c.low,
    )
    statement = select(extent.segment_id, extent.first_step, extent.last_step)
    for segment, first, last in await session.execute(statement.join_from(spans, extent, touched)):
        known[segment].append((first, last))
    gone: list[tuple[int, int]] = []
    longer: list[dict[str, int]] = []
    made: list[tuple[int, int, int]] = []
    for segment, before in known.items():
        after = dict(merge_steps(before, steps[segment]))
        lasts = dict(before)
        gone += [(segment, first) for first in lasts.keys() - after.keys()]
        for first, last in after.items():
            if first not in lasts:
                made.append((segment, first, last))
            elif lasts[first] != last:
                longer.append({"segment": segment, "first": first, "last": last})
    await _write_extents(session, gone, longer, made)


async def _write_extents(
    session: WriteSession,
    gone: Sequence[tuple[int, int]],
    longer: Sequence[dict[str, int]],
    made: Sequence[tuple[int, int, int]],
) -> None:
    key = tuple_(MetricExtent.segment_id, MetricExtent.first_step)
    if gone:
        await session.execute(delete(MetricExtent).where(key.in_(gone)))
    if longer:
        connection = await session.connection()
        await connection.execute(_LONGER, longer)
    await insert_missing(session, table_of(MetricExtent), ("segment_id", "first_step", "last_step"), made)


async def _names(
    session: WriteSession, deliveries: Sequence[ParsedBatch]
) -> tuple[Mapping[str, Mapping[str, int]], list[ApiError | None]]:
    """Return run -> name -> number of all further numbers; and for each batch an error if it has too many."""
    asked = [_named(delivery) for delivery in deliveries]
    known = await _known_names(
        session, {delivery.run_uid for delivery, names in zip(deliveries, asked, strict=True) if names}
    )
    wanted = {run: dict.fromkeys(names) for run, names in known.items()}
    refused: list[ApiError | None] = []
    for delivery, names in zip(deliveries, asked, strict=True):
        together = {**wanted.get(delivery.run_uid, {}), **names}
        if names and len(together) > VALUE_NAMES:
            refused.append(_too_many(names))
            continue
        if names:
            wanted[delivery.run_uid] = together
        refused.append(None)
    while made := _numbered(known, wanted):
        # Another writer may have given the same number away meanwhile: its name stands, and ours is next.
        await insert_missing(session, table_of(MetricValueName), ("run_uid", "number", "name"), made)
        known = await _known_names(session, wanted)
    return known, refused


def _numbered(
    known: Mapping[str, Mapping[str, int]], wanted: Mapping[str, Iterable[str]]
) -> list[tuple[str, int, str]]:
    """Return (run, number, name) of the names that are not stored yet."""
    made = []
    for run, names in sorted(wanted.items()):
        following = max(known[run].values(), default=-1) + 1
        new = [name for name in names if name not in known[run]]
        made += [(run, following + place, name) for place, name in enumerate(new)]
    return made


def _named(delivery: ParsedBatch) -> dict[str, None]:
    """Return the names of a batch's further numbers, in order."""
    return {name: None for rows in delivery.rows.values() for row in rows for name in row.further or ()}


def _too_many(names: Iterable[str]) -> Invalid:
    return Invalid.field(
        "body.rows", ", ".join(names)[:200], f"must name at most {VALUE_NAMES} further numbers in a run"
    )


async def _known_names(session: ReadSession, runs: Iterable[str]) -> dict[str, dict[str, int]]:
    known: dict[str, dict[str, int]] = {run: {} for run in runs}
    if known:
        statement = select(MetricValueName.run_uid, MetricValueName.name, MetricValueName.number)
        for run, name, number in await session.execute(statement.where(MetricValueName.run_uid.in_(known))):
            known[run][name] = number
    return known


async def store_dropped(session: WriteSession, deliveries: Iterable[ParsedBatch]) -> None:
    """Store the largest counts of dropped entries that a coordinator has reported: the counts only grow."""
    said: dict[tuple[str, int], DroppedTelemetry] = {}
    for delivery in sorted(deliveries, key=lambda delivery: _count(delivery.given_up)):
        if _count(delivery.given_up):
            said[delivery.run_uid, delivery.epoch] = delivery.given_up
    if said:
        table = DroppedTelemetryCount
        statement = upsert(
            session,
            table,
            lambda new: (new.refused + new.overflowed) > (table.refused + table.overflowed),
        )
        await session.execute(
            statement,
            [
                {"run_uid": run, "epoch": epoch, **counts.model_dump()}
                for (run, epoch), counts in sorted(said.items(), key=itemgetter(0))
            ],
        )


def _count(given_up: DroppedTelemetry) -> int:
    return given_up.refused + given_up.overflowed


_LONGER: Final = (
    update(table_of(MetricExtent))
    .where(MetricExtent.segment_id == bindparam("segment"), MetricExtent.first_step == bindparam("first"))
    .values(last_step=bindparam("last"))
)
