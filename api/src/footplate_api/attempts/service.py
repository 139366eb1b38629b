"""Reads the attempts of a run."""

from __future__ import annotations

from footplate_api.attempts import repository
from footplate_api.attempts.schemas import AttemptHole, AttemptList, AttemptQuery, AttemptRecord
from footplate_api.db.database import ReadSession
from footplate_api.registry import lookup


async def list_attempts(session: ReadSession, namespace: str, name: str, query: AttemptQuery) -> AttemptList:
    """Return a page of a run's attempts, newest first, and the missing numbers; raises RunNotFound."""
    uid = await lookup.uid_of(session, namespace, name, query.uid, query.former_namespaces)
    rows = await repository.newest_first(session, uid, query.before, query.limit + 1)
    items = [AttemptRecord.model_validate(row) for row in rows[: query.limit]]
    holes = [
        AttemptHole(first=first, last=last) for first, last in await repository.missing_ranges(session, uid)
    ]
    following = str(items[-1].number) if len(rows) > query.limit else None
    return AttemptList(run_uid=uid, items=items, holes=holes, next_cursor=following)
