"""Queries on the runs that have gauges, and on the lease of their exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Dialect, Row, Text, and_, cast, delete, func, or_, select
from sqlalchemy.dialects import postgresql

from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.metrics.spans import texts_of
from footplate_api.models.base import table_of
from footplate_api.models.installation import THE_ROW, RunExporter
from footplate_api.models.run import RunRow
from footplate_api.system.phase_priority import ENDED

# The table and not the model: the ORM takes as long to hand a row over as the database to find it.
_RUN: Final = table_of(RunRow).c
_STANDING: Final = (_RUN.uid, _RUN.resource_version)
Standing = Row[*tuple[Any, ...]]
"""uid, resource_version."""
_KNOWN: Final = (
    _RUN.uid,
    _RUN.namespace,
    _RUN.name,
    _RUN.phase,
    _RUN.step,
    _RUN.loss,
    cast(_RUN.status, Text),
)
Known = Row[*tuple[Any, ...]]
"""uid, namespace, name, phase, step, loss, and the status as the text of JSON."""


def _standing(served: NamespaceScope) -> ColumnElement[bool]:
    """Return the condition for runs that Kubernetes has and this installation follows."""
    there = _RUN.deleted_at.is_(None)
    return and_(there, _RUN.namespace.in_(served.namespaces)) if served.namespaces else there


async def phases(session: ReadSession, served: NamespaceScope) -> Mapping[str | None, int]:
    """Return how many runs are in each phase; without namespaces the index alone is read."""
    statement = select(_RUN.phase, func.count()).where(_standing(served)).group_by(_RUN.phase)
    return {row[0]: row[1] for row in await session.execute(statement)}


async def youngest(
    session: ReadSession, served: NamespaceScope, among: Sequence[str | None], limit: int
) -> Sequence[Standing]:
    """Return at most `limit` runs in the phases `among`, youngest first."""
    known = [phase for phase in among if phase is not None]
    of_phases: ColumnElement[bool] = _RUN.phase.in_(known)
    if None in among:
        of_phases = or_(of_phases, _RUN.phase.is_(None))
    statement = select(*_STANDING).where(_standing(served), of_phases)
    return (await session.execute(statement.order_by(_RUN.created_at.desc()).limit(limit))).all()


async def ended(
    session: ReadSession, served: NamespaceScope, after: datetime, limit: int
) -> tuple[Sequence[Standing], int]:
    """Return at most `limit` runs that ended after `after`, youngest first, and how many there are.

    No run is seen before it has ended, and the index has the time at which it was seen.
    """
    since = and_(_RUN.seen_at > after, or_(_RUN.ended_at > after, _RUN.ended_at.is_(None)))
    lately = and_(_standing(served), _RUN.phase.in_(sorted(ENDED)), since)
    statement = select(*_STANDING).where(lately).order_by(_RUN.created_at.desc()).limit(limit)
    found = (await session.execute(statement)).all()
    if len(found) < limit:
        return found, len(found)
    return found, (await session.execute(select(func.count()).where(lately))).scalar_one()


async def get_runs(session: ReadSession, uids: Sequence[str]) -> Sequence[Known]:
    """Return the mirror's columns of these runs."""
    asked = texts_of(session, uids)
    statement = select(*_KNOWN).join_from(asked, table_of(RunRow), _RUN.uid == asked.c.text)
    return (await session.execute(statement)).all()


def is_shared(dialect: Dialect) -> bool:
    """Return whether other replicas may read the same database: a SQLite file has one process."""
    return dialect.name == "postgresql"


async def is_exporter(session: ReadSession, holder: str) -> bool:
    """Return whether `holder` exports the runs' gauges now."""
    if not is_shared(session.get_bind().dialect):
        return True
    statement = select(RunExporter.holder).where(RunExporter.expires > func.clock_timestamp())
    return (await session.execute(statement)).scalar_one_or_none() == holder


async def claim(session: WriteSession, holder: str, lasting: timedelta) -> bool:
    """Claim or renew the lease of `holder`, unless another replica has it; return whether that succeeded."""
    expires = func.clock_timestamp() + lasting
    statement = postgresql.insert(RunExporter).values(id=THE_ROW, holder=holder, expires=expires)
    statement = statement.on_conflict_do_update(
        index_elements=[RunExporter.id],
        set_={"holder": holder, "expires": expires},
        where=or_(RunExporter.holder == holder, RunExporter.expires < func.clock_timestamp()),
    )
    return (await session.execute(statement.returning(RunExporter.holder))).scalar_one_or_none() is not None


async def release(session: WriteSession, holder: str) -> None:
    """Release the lease of `holder`, so that another replica can claim it at once."""
    await session.execute(delete(RunExporter).where(RunExporter.holder == holder))
