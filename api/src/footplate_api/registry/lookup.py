"""Run that a namespace and a name stand for."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Select, select

from footplate_api.db.database import ReadSession
from footplate_api.errors import RunNotFound
from footplate_api.models.run import RunRow
from footplate_api.namespaces.repository import in_current_namespace

Found = TypeVar("Found")


async def find(
    session: ReadSession, namespace: str, name: str, uid: str | None = None, former_namespaces: bool = False
) -> RunRow:
    """Return the run of this name: the one with `uid`, else the live one, else the newest.

    Raises RunNotFound.
    """
    return await _find(session, select(RunRow), namespace, name, uid, former_namespaces)


async def uid_of(
    session: ReadSession, namespace: str, name: str, uid: str | None = None, former_namespaces: bool = False
) -> str:
    """Return the uid of the run that find() returns, without reading its row; raises RunNotFound."""
    return await _find(session, select(RunRow.uid), namespace, name, uid, former_namespaces)


async def _find(
    session: ReadSession, statement: Select[Found], namespace: str, name: str, uid: str | None, former: bool
) -> Found:
    """Return the first result of `statement` for the run of this name.

    Kubernetes reuses a name at once but counts time in seconds, and this mirror may not know yet that the
    former run is gone: of two runs of one second the one with the later version is newer.
    """
    statement = statement.where(RunRow.namespace == namespace, RunRow.name == name)
    if not former:
        statement = statement.where(in_current_namespace(namespace))
    if uid is not None:
        statement = statement.where(RunRow.uid == uid)
    live_first = (RunRow.deleted_at.is_not(None), RunRow.created_at.desc(), RunRow.resource_version.desc())
    found = await session.scalar(statement.order_by(*live_first).limit(1))
    if found is None:
        which = f" with uid {uid!r}" if uid else ""
        raise RunNotFound(f"No TrainingRun {name!r}{which} was seen in namespace {namespace!r}.")
    return found
