"""Queries on coordinators."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.models.base import table_of
from footplate_api.models.run import RunCoordinator


async def store_coordinators(session: WriteSession, coordinators: Sequence[CoordinatorPod]) -> None:
    """Insert missing coordinators; existing rows never change: a pod has one run and one epoch."""
    if coordinators:
        postgres = session.get_bind().dialect.name == "postgresql"
        statement = (postgresql if postgres else sqlite).insert(table_of(RunCoordinator))
        rows = [known._asdict() for known in coordinators]
        await session.execute(statement.on_conflict_do_nothing(), rows)


async def find(session: ReadSession, namespace: str, name: str, pod_uid: str) -> CoordinatorPod | None:
    """Return the coordinator of a run with this name, if this pod is or was one."""
    table = RunCoordinator
    statement = select(*(getattr(table, column) for column in CoordinatorPod._fields)).where(
        table.pod_uid == pod_uid, table.namespace == namespace, table.name == name
    )
    found = (await session.execute(statement.limit(1))).first()
    return None if found is None else CoordinatorPod(*found)
