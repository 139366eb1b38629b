"""Queries on checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import accumulate
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, tuple_

from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.metrics.telemetry import committing_generation
from footplate_api.models.base import upsert
from footplate_api.models.run import CheckpointRow
from footplate_contracts.reports import CheckpointRecord, CheckpointRemoval

KEPT: Final = 10_000  # records of a run
PAGE_CHARACTERS: Final = 2_000_000  # of the places on one page: an earlier release took some of any length


async def store_checkpoints(session: WriteSession, records: Sequence[tuple[str, CheckpointRecord]]) -> None:
    """Upsert (run uid, record) under (run, step).

    A newer generation's commit wins, whatever the clocks; within one generation the later commit wins.
    """
    if records:
        statement = upsert(session, CheckpointRow, _replaces, _still_removed)
        await session.execute(statement, _in_order(_committed(uid, record) for uid, record in records))
        await _forget(session, {uid for uid, _ in records})


async def mark_removed(session: WriteSession, removals: Sequence[tuple[str, CheckpointRemoval]]) -> None:
    """Mark the checkpoints that retention removed, even before their records arrive."""
    if removals:
        statement = upsert(session, CheckpointRow, _is_gone, _marked)
        await session.execute(statement, _in_order(_removed(uid, removal) for uid, removal in removals))
        await _forget(session, {uid for uid, _ in removals})


async def _forget(session: WriteSession, runs: Set[str]) -> None:
    """Delete all but the newest KEPT checkpoints of each run; removed checkpoints go first."""
    row = CheckpointRow
    for run in sorted(runs):
        of_run = row.run_uid == run
        surplus = (await session.scalar(select(func.count()).where(of_run)) or 0) - KEPT
        if surplus > 0:
            oldest = (
                select(row.step).where(of_run).order_by(row.removed_at.is_(None), row.step).limit(surplus)
            )
            await session.execute(delete(row).where(of_run, row.step.in_(oldest)))


def _in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort rows, so that two writers of the same checkpoints never deadlock."""
    return sorted(rows, key=itemgetter("run_uid", "step"))


def _committed(uid: str, record: CheckpointRecord) -> dict[str, Any]:
    epoch, number = committing_generation(record) or (None, None)
    values = record.model_dump(exclude={"generation"})
    return {**values, "run_uid": uid, "epoch": epoch, "number": number, "removed_at": None}


def _removed(uid: str, removal: CheckpointRemoval) -> dict[str, Any]:
    unknown = {"uri": "", "time": removal.time, "bytes": 0, "seconds_blocked": 0.0, "seconds_total": 0.0}
    generation = removal.generation.model_dump()
    return {**unknown, **generation, "run_uid": uid, "step": removal.step, "removed_at": removal.time}


def _generation(row: Any) -> ColumnElement[Any]:
    """Return the generation in a form that is comparable even if an earlier release stored none."""
    return tuple_(func.coalesce(row.epoch, -1), func.coalesce(row.number, -1))


def _same(new: Any) -> ColumnElement[bool]:
    known = CheckpointRow.epoch.is_(None)
    return or_(known, and_(CheckpointRow.epoch == new.epoch, CheckpointRow.number == new.number))


def _replaces(new: Any) -> ColumnElement[bool]:
    later = or_(CheckpointRow.uri == "", new.time > CheckpointRow.time)
    equal = and_(
        func.coalesce(CheckpointRow.epoch, -1) == func.coalesce(new.epoch, -1),
        func.coalesce(CheckpointRow.number, -1) == func.coalesce(new.number, -1),
    )
    return or_(_generation(new) > _generation(CheckpointRow), and_(equal, later))


def _still_removed(new: Any) -> Mapping[str, ColumnElement[Any]]:
    return {"removed_at": case((_same(new), CheckpointRow.removed_at), else_=None)}


def _is_gone(new: Any) -> ColumnElement[bool]:
    newer = _generation(new) > _generation(CheckpointRow)
    return or_(and_(_same(new), CheckpointRow.removed_at.is_(None)), newer)


def _marked(new: Any) -> Mapping[str, ColumnElement[Any]]:
    """Return column values: unchanged for the stored generation; of a newer one only the end is known."""
    kept = ("uri", "time", "bytes", "seconds_blocked", "seconds_total")
    return {name: case((_same(new), getattr(CheckpointRow, name)), else_=new[name]) for name in kept}


async def newest_first(
    session: ReadSession, run_uid: str, before: int | None, limit: int, removed: bool
) -> tuple[Sequence[CheckpointRow], bool]:
    """Return checkpoints below step `before`, as many as fit a page of `limit`, and whether there are more.

    `removed` includes the checkpoints that retention removed.
    """
    chosen = [CheckpointRow.run_uid == run_uid]
    if not removed:
        chosen.append(CheckpointRow.removed_at.is_(None))
    if before is not None:
        chosen.append(CheckpointRow.step < before)
    newest = CheckpointRow.step.desc()
    lengths = select(func.length(CheckpointRow.uri)).where(*chosen).order_by(newest).limit(limit + 1)
    sums = list(accumulate((await session.scalars(lengths)).all()))
    fit = max(1, sum(characters <= PAGE_CHARACTERS for characters in sums[:limit]))
    page = await session.scalars(select(CheckpointRow).where(*chosen).order_by(newest).limit(fit))
    return page.all(), len(sums) > fit


async def count(session: ReadSession, run_uid: str) -> int:
    """Return how many steps of a run were committed, including removed checkpoints; at most KEPT."""
    committed = select(func.count()).where(CheckpointRow.run_uid == run_uid, CheckpointRow.uri != "")
    return await session.scalar(committed) or 0
