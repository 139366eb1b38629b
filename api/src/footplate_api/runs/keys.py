"""Queries on the keys under which runs were asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, select, true, update

from footplate_api.database import ReadSession, WriteSession
from footplate_api.labels.derived import labels
from footplate_api.models.base import table_of, upsert
from footplate_api.models.idempotency import IdempotencyKey
from footplate_api.models.label import RunLabel
from footplate_api.models.run import Run
from footplate_api.runs.idempotency import KEPT, Asking, oldest

_COLUMNS: Final = table_of(IdempotencyKey).columns
_AS_THEY_ARE: Final = {column.name: column for column in _COLUMNS if not column.primary_key}


async def reserve(session: WriteSession, asking: Asking, now: datetime) -> IdempotencyKey:
    """The key's row, which is of `asking` unless another was asked for under it less than a day ago.

    It is locked: nobody gives it back between its being found and its being read.
    """
    await session.execute(delete(IdempotencyKey).where(_of(asking), IdempotencyKey.created_at < now - KEPT))
    row = {"id": asking.key, "request": asking.request, "created_at": now}
    await session.execute(upsert(session, IdempotencyKey, lambda new: true(), lambda new: _AS_THEY_ARE), row)
    return (await session.scalars(select(IdempotencyKey).where(_of(asking)))).one()


async def answered(session: WriteSession, asking: Asking, answer: str) -> str:
    """Notes what is answered; returns what stands, which is what the first attempt was answered."""
    first = update(IdempotencyKey).where(_of(asking), IdempotencyKey.answer.is_(None))
    await session.execute(first.values(answer=answer))
    return await session.scalar(select(IdempotencyKey.answer).where(_of(asking))) or answer


async def give_back(session: WriteSession, asking: Asking) -> None:
    """Lets the key be used for something else: nothing was created under it."""
    unanswered = and_(IdempotencyKey.request == asking.request, IdempotencyKey.answer.is_(None))
    await session.execute(delete(IdempotencyKey).where(_of(asking), unanswered))


async def run_of(session: ReadSession, asking: Asking, reserved_at: datetime) -> Run | None:
    """The run that an earlier attempt created and the mirror has seen."""
    found = select(Run).where(Run.namespace == asking.namespace, Run.created_at >= oldest(reserved_at))
    for key, value in labels({"annotations": asking.annotations}).items():
        told = select(RunLabel.run_uid).where(RunLabel.key == key, RunLabel.value == value)
        found = found.where(Run.uid.in_(told))
    return (await session.scalars(found.limit(1))).first()


async def forget(session: WriteSession, now: datetime) -> None:
    """Deletes the keys of yesterday."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - KEPT))


def _of(asking: Asking) -> ColumnElement[bool]:
    return IdempotencyKey.id == asking.key
