"""Queries on checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from footplate_api.database import ReadSession, WriteSession
from footplate_api.models.base import upsert
from footplate_api.models.checkpoint import Checkpoint
from footplate_contracts.reports import CheckpointRecord


async def store(session: WriteSession, run_uid: str, records: Sequence[CheckpointRecord]) -> None:
    """Upserts under (run, step); a later commit of the same step replaces an earlier one."""
    newest = {record.step: record for record in sorted(records, key=lambda record: record.time)}
    if not newest:
        return
    statement = upsert(session, Checkpoint, lambda new: new.time > Checkpoint.time)
    values = [
        {"run_uid": run_uid, **newest[step].model_dump(exclude={"generation"})} for step in sorted(newest)
    ]
    await session.execute(statement, values)


async def newest_first(
    session: ReadSession, run_uid: str, before: int | None, limit: int
) -> Sequence[Checkpoint]:
    """At most `limit` checkpoints below step `before`."""
    statement = select(Checkpoint).where(Checkpoint.run_uid == run_uid)
    if before is not None:
        statement = statement.where(Checkpoint.step < before)
    return (await session.scalars(statement.order_by(Checkpoint.step.desc()).limit(limit))).all()
