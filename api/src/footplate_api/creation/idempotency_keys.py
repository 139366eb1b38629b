"""Queries on the idempotency keys of runs."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, select, true, update

from footplate_api.creation.idempotency import KEPT, IdempotentRequest, earliest_creation
from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.labels.run_labels import derive_labels
from footplate_api.models.base import table_of, upsert
from footplate_api.models.installation import IdempotencyKey
from footplate_api.models.run import RunLabel, RunRow

_COLUMNS: Final = table_of(IdempotencyKey).columns
_AS_THEY_ARE: Final = {column.name: column for column in _COLUMNS if not column.primary_key}


async def reserve(session: WriteSession, asking: IdempotentRequest, now: datetime) -> IdempotencyKey:
    """Return the key's locked row, which has another request if one used the key within the last day.

    The lock ensures that nobody releases the key between finding and reading it.
    """
    await session.execute(delete(IdempotencyKey).where(_of(asking), IdempotencyKey.created_at < now - KEPT))
    row = {"id": asking.key, "request": asking.request, "created_at": now}
    await session.execute(upsert(session, IdempotencyKey, lambda new: true(), lambda new: _AS_THEY_ARE), row)
    return (await session.scalars(select(IdempotencyKey).where(_of(asking)))).one()


async def store_answer(session: WriteSession, asking: IdempotentRequest, answer: str) -> str:
    """Store the response; return the stored one, which is that of the first attempt."""
    first = update(IdempotencyKey).where(_of(asking), IdempotencyKey.answer.is_(None))
    await session.execute(first.values(answer=answer))
    return await session.scalar(select(IdempotencyKey.answer).where(_of(asking))) or answer


async def release(session: WriteSession, asking: IdempotentRequest) -> None:
    """Release the key, under which nothing was created."""
    unanswered = and_(IdempotencyKey.request == asking.request, IdempotencyKey.answer.is_(None))
    await session.execute(delete(IdempotencyKey).where(_of(asking), unanswered))


async def find_run(session: ReadSession, asking: IdempotentRequest, reserved_at: datetime) -> RunRow | None:
    """Return the run that an earlier attempt created, if the mirror has it."""
    found = select(RunRow).where(
        RunRow.namespace == asking.namespace, RunRow.created_at >= earliest_creation(reserved_at)
    )
    for key, value in derive_labels({"annotations": asking.annotations}).items():
        told = select(RunLabel.run_uid).where(RunLabel.key == key, RunLabel.value == value)
        found = found.where(RunRow.uid.in_(told))
    return (await session.scalars(found.limit(1))).first()


async def delete_expired(session: WriteSession, now: datetime) -> None:
    """Delete keys that are older than a day."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - KEPT))


def _of(asking: IdempotentRequest) -> ColumnElement[bool]:
    return IdempotencyKey.id == asking.key
