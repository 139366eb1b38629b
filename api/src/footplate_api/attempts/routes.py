"""REST endpoint of attempts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from footplate_api.attempts import repository
from footplate_api.attempts.schemas import AttemptHole, AttemptList, AttemptQuery, AttemptRecord
from footplate_api.dependencies import Reading
from footplate_api.errors import DatabaseUnavailable, RunNotFound
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.identity.rights import require_right
from footplate_api.registry import lookup
from footplate_api.serialization.schemas import Namespace, RunName

router = APIRouter(prefix="/v1/namespaces/{namespace}/runs/{name}", tags=["runs"], **ROUTER)


@router.get(
    "/attempts",
    summary="Attempts of a run, newest first",
    dependencies=[require_right("get", named=True)],
    responses=raises(RunNotFound, DatabaseUnavailable),
)
async def list_attempts(
    namespace: Namespace, name: RunName, query: Annotated[AttemptQuery, Query()], session: Reading
) -> AttemptList:
    """List every attempt that the run's status ever reported, not only the newest twenty."""
    uid = await lookup.uid_of(session, namespace, name, query.uid, query.former_namespaces)
    rows = await repository.newest_first(session, uid, query.before, query.limit + 1)
    items = [AttemptRecord.model_validate(row) for row in rows[: query.limit]]
    missing = await repository.missing_ranges(session, uid)
    holes = [AttemptHole(first=first, last=last) for first, last in missing]
    following = str(items[-1].number) if len(rows) > query.limit else None
    return AttemptList(run_uid=uid, items=items, holes=holes, next_cursor=following)
