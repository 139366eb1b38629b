"""Run that a namespace and a name stand for."""

from __future__ import annotations

from footplate_api.db.database import ReadSession
from footplate_api.errors import RunNotFound
from footplate_api.models.run import RunRow
from footplate_api.registry import repository


async def find(
    session: ReadSession, namespace: str, name: str, uid: str | None = None, former_namespaces: bool = False
) -> RunRow:
    """Return the run of this name, live or newest; raises RunNotFound."""
    run = await repository.find(session, namespace, name, uid, former_namespaces)
    if run is None:
        raise _not_found(namespace, name, uid)
    return run


async def uid_of(
    session: ReadSession, namespace: str, name: str, uid: str | None = None, former_namespaces: bool = False
) -> str:
    """Return the uid of the run that find() returns, for rows stored under it; raises RunNotFound."""
    found = await repository.find_uid(session, namespace, name, uid, former_namespaces)
    if found is None:
        raise _not_found(namespace, name, uid)
    return found


def _not_found(namespace: str, name: str, uid: str | None) -> RunNotFound:
    which = f" with uid {uid!r}" if uid else ""
    return RunNotFound(f"No TrainingRun {name!r}{which} was seen in namespace {namespace!r}.")
