"""Queries on the table of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, case, or_, select, tuple_, update

from footplate_api.database import ReadSession, WriteSession
from footplate_api.models.base import upsert
from footplate_api.models.run import Run
from footplate_api.runs.pagination import Position
from footplate_api.runs.schemas import RunQuery, RunSummary
from footplate_contracts.names import Phase

_SUMMARY = [getattr(Run, name) for name in RunSummary.model_fields]


async def page(
    session: ReadSession, namespace: str, query: RunQuery, after: Position | None
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Summaries after a position, newest first: one more than the limit if there are more."""
    statement = (
        select(*_SUMMARY)
        .where(Run.namespace == namespace)
        .order_by(Run.created_at.desc(), Run.uid.desc())
        .limit(query.limit + 1)
    )
    if query.phase is not None:
        statement = statement.where(Run.phase == query.phase.value)
    if query.stage is not None:
        statement = statement.where(Run.stage == query.stage.value)
    if not query.include_deleted:
        statement = statement.where(Run.deleted_at.is_(None))
    if after is not None:
        statement = statement.where(tuple_(Run.created_at, Run.uid) < (after.created_at, after.uid))
    return (await session.execute(statement)).all()


async def find(session: ReadSession, namespace: str, name: str, uid: str | None) -> Run | None:
    """The run of this name: the one with `uid`, else the live one, else the newest.

    Kubernetes gives a name away again at once but counts time in seconds, and this mirror may
    not know yet that the former bearer is gone: of two of one second the later version is newer.
    """
    statement = select(Run).where(Run.namespace == namespace, Run.name == name)
    if uid is not None:
        statement = statement.where(Run.uid == uid)
    statement = statement.order_by(
        Run.deleted_at.is_not(None), Run.created_at.desc(), Run.resource_version.desc()
    )
    return (await session.scalars(statement.limit(1))).first()


async def names_of(session: ReadSession, uids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Uid -> (namespace, name) of the runs that the mirror has seen."""
    statement = select(Run.uid, Run.namespace, Run.name).where(Run.uid.in_(list(uids)))
    return {uid: (namespace, name) for uid, namespace, name in await session.execute(statement)}


async def store(session: WriteSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts or renews runs; an older resource version never replaces a newer one.

    A run that was taken for deleted by mistake comes back with the version it had.
    """
    if not rows:
        return
    statement = upsert(
        session,
        Run,
        lambda new: or_(
            new.resource_version > Run.resource_version,
            and_(new.resource_version == Run.resource_version, Run.deleted_at.is_not(None)),
        ),
    )
    # In one order, so that two mirrors that write the same runs never wait for each other in a ring.
    await session.execute(statement, sorted((dict(row) for row in rows), key=lambda row: str(row["uid"])))


async def live_uids(session: ReadSession, up_to: int, seen_before: datetime) -> set[str]:
    """Runs that are not known to be deleted, and that a list of version `up_to` lacks only if they are.

    They were seen in no newer version, or before the list began. The latter alone misses what came and
    went until the moment that the list shows; the former alone, all of a cluster that was set up anew,
    or restored, and counts from less.
    """
    statement = select(Run.uid).where(
        Run.deleted_at.is_(None), or_(Run.resource_version <= up_to, Run.seen_at < seen_before)
    )
    return set(await session.scalars(statement))


async def mark_deleted(session: WriteSession, uids: Iterable[str], at: datetime) -> None:
    """Notes that Kubernetes has these runs no more; the first such note stands."""
    for uid in sorted(uids):
        await session.execute(
            update(Run).where(Run.uid == uid, Run.deleted_at.is_(None)).values(deleted_at=at, seen_at=at)
        )


async def ends(session: ReadSession) -> dict[str, datetime | None]:
    """Uid -> when the run was last seen to change after its end; None while it has not ended."""
    over = or_(Run.deleted_at.is_not(None), Run.phase.in_([phase.value for phase in Phase if phase.terminal]))
    statement = select(Run.uid, case((over, Run.seen_at), else_=None))
    return {row[0]: row[1] for row in await session.execute(statement)}
