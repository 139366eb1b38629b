"""Queries on the keys under which runs were asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, select, update

from footplate_api.bulk import insert_missing
from footplate_api.database import ReadSession, WriteSession
from footplate_api.labels.derived import Property
from footplate_api.models.base import table_of
from footplate_api.models.idempotency import IdempotencyKey
from footplate_api.models.label import RunLabel
from footplate_api.models.run import Run
from footplate_api.runs.idempotency import KEPT, Asking

_COLUMNS: Final = ("id", "request", "created_at")


async def reserve(session: WriteSession, asking: Asking, now: datetime) -> IdempotencyKey:
    """The key's row, which is of `asking` unless another was asked for under it less than a day ago."""
    row = (asking.key, asking.request, now)
    await session.execute(delete(IdempotencyKey).where(_of(asking), IdempotencyKey.created_at < now - KEPT))
    await insert_missing(session, table_of(IdempotencyKey), _COLUMNS, [row])
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


async def run_of(session: ReadSession, asking: Asking) -> Run | None:
    """The run that an earlier attempt created and the mirror has seen."""
    uid = select(RunLabel.run_uid).where(
        RunLabel.key == Property.ASKED_UNDER.value, RunLabel.value == asking.mark
    )
    return (await session.scalars(select(Run).where(Run.uid.in_(uid)).limit(1))).first()


async def forget(session: WriteSession, now: datetime) -> None:
    """Deletes the keys of yesterday."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - KEPT))


def _of(asking: Asking) -> ColumnElement[bool]:
    return IdempotencyKey.id == asking.key
