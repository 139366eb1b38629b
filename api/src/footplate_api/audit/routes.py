"""REST endpoint of the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from footplate_api.audit import service
from footplate_api.audit.schemas import AuditList, AuditQuery
from footplate_api.dependencies import Reading
from footplate_api.errors import DatabaseUnavailable
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.identity.rights import require_right

router = APIRouter(prefix="/v1", tags=["audit"], **ROUTER)


@router.get(
    "/audit",
    summary="Who asked for which write, newest first",
    dependencies=[require_right("list", everywhere=True)],
    responses=raises(DatabaseUnavailable),
)
async def list_audit(query: Annotated[AuditQuery, Query()], session: Reading) -> AuditList:
    """List every write through this API, including refused ones, but neither telemetry nor dry runs.

    Requires the right to list the runs of all namespaces; follow `nextCursor` for the next page.
    """
    return await service.list_audit(session, query)
