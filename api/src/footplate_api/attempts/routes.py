"""REST endpoint of attempts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from footplate_api.attempts import service
from footplate_api.attempts.schemas import AttemptList, AttemptQuery
from footplate_api.dependencies import Reading
from footplate_api.errors import DatabaseUnavailable, RunNotFound
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.identity.rights import require_right
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
    return await service.list_attempts(session, namespace, name, query)
