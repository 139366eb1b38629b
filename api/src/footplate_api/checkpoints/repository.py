"""Queries on checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, tuple_

from footplate_api.database import ReadSession, WriteSession
from footplate_api.metrics.telemetry import generation_of
from footplate_api.models.base import upsert
from footplate_api.models.checkpoint import Checkpoint
from footplate_contracts.reports import CheckpointRecord, CheckpointRemoval


async def store(session: WriteSession, records: Sequence[tuple[str, CheckpointRecord]]) -> None:
    """Upserts (run uid, record) under (run, step).

    What a newer generation committed stands, whatever the clocks; of one generation the later commit.
    """
    if records:
        statement = upsert(session, Checkpoint, _replaces, _still_removed)
        await session.execute(statement, _in_order(_committed(uid, record) for uid, record in records))


async def remove(session: WriteSession, removals: Sequence[tuple[str, CheckpointRemoval]]) -> None:
    """Marks what retention removed, also where the record of it is still to come."""
    if removals:
        statement = upsert(session, Checkpoint, _is_gone, _marked)
        await session.execute(statement, _in_order(_removed(uid, removal) for uid, removal in removals))


def _in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """So that two writers of the same checkpoints never wait for each other in a ring."""
    return sorted(rows, key=itemgetter("run_uid", "step"))


def _committed(uid: str, record: CheckpointRecord) -> dict[str, Any]:
    epoch, number = generation_of(record) or (None, None)
    values = record.model_dump(exclude={"generation"})
    return {**values, "run_uid": uid, "epoch": epoch, "number": number, "removed_at": None}


def _removed(uid: str, removal: CheckpointRemoval) -> dict[str, Any]:
    unknown = {"uri": "", "time": removal.time, "bytes": 0, "seconds_blocked": 0.0, "seconds_total": 0.0}
    generation = removal.generation.model_dump()
    return {**unknown, **generation, "run_uid": uid, "step": removal.step, "removed_at": removal.time}


def _generation(row: Any) -> ColumnElement[Any]:
    """Comparable also where an earlier release noted none."""
    return tuple_(func.coalesce(row.epoch, -1), func.coalesce(row.number, -1))


def _same(new: Any) -> ColumnElement[bool]:
    known = Checkpoint.epoch.is_(None)
    return or_(known, and_(Checkpoint.epoch == new.epoch, Checkpoint.number == new.number))


def _replaces(new: Any) -> ColumnElement[bool]:
    later = or_(Checkpoint.uri == "", new.time > Checkpoint.time)
    equal = and_(
        func.coalesce(Checkpoint.epoch, -1) == func.coalesce(new.epoch, -1),
        func.coalesce(Checkpoint.number, -1) == func.coalesce(new.number, -1),
    )
    return or_(_generation(new) > _generation(Checkpoint), and_(equal, later))


def _still_removed(new: Any) -> Mapping[str, ColumnElement[Any]]:
    return {"removed_at": case((_same(new), Checkpoint.removed_at), else_=None)}


def _is_gone(new: Any) -> ColumnElement[bool]:
    newer = _generation(new) > _generation(Checkpoint)
    return or_(and_(_same(new), Checkpoint.removed_at.is_(None)), newer)


def _marked(new: Any) -> Mapping[str, ColumnElement[Any]]:
    """Of the generation that is known all stays as it is; of a newer one nothing is known but its end."""
    kept = ("uri", "time", "bytes", "seconds_blocked", "seconds_total")
    return {name: case((_same(new), getattr(Checkpoint, name)), else_=new[name]) for name in kept}


async def newest_first(
    session: ReadSession, run_uid: str, before: int | None, limit: int, removed: bool
) -> Sequence[Checkpoint]:
    """At most `limit` checkpoints below step `before`; `removed`: also those that retention removed."""
    statement = select(Checkpoint).where(Checkpoint.run_uid == run_uid)
    if not removed:
        statement = statement.where(Checkpoint.removed_at.is_(None))
    if before is not None:
        statement = statement.where(Checkpoint.step < before)
    return (await session.scalars(statement.order_by(Checkpoint.step.desc()).limit(limit))).all()


async def count(session: ReadSession, run_uid: str) -> int:
    """How many steps of a run were committed, those that retention removed included."""
    committed = select(func.count()).where(Checkpoint.run_uid == run_uid, Checkpoint.uri != "")
    return await session.scalar(committed) or 0
