"""REST endpoint of checkpoints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from footplate_api.checkpoints import service
from footplate_api.checkpoints.schemas import CheckpointList, CheckpointQuery
from footplate_api.dependencies import Reading
from footplate_api.errors import DatabaseUnavailable, RunNotFound
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.identity.rights import require_right
from footplate_api.serialization.schemas import Namespace, RunName

router = APIRouter(prefix="/v1/namespaces/{namespace}/runs/{name}", tags=["checkpoints"], **ROUTER)


@router.get(
    "/checkpoints",
    summary="Checkpoints of a run, newest first",
    dependencies=[require_right("get", named=True)],
    responses=raises(RunNotFound, DatabaseUnavailable),
)
async def list_checkpoints(
    namespace: Namespace, name: RunName, query: Annotated[CheckpointQuery, Query()], session: Reading
) -> CheckpointList:
    """List the committed checkpoints; `removed=true` adds checkpoints that retention removed."""
    return await service.list_checkpoints(session, namespace, name, query)
