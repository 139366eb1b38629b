"""REST endpoint of the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from footplate_api.audit import pagination, repository
from footplate_api.audit.pagination import AuditPosition
from footplate_api.audit.schemas import AuditEvent, AuditList, AuditOutcome, AuditQuery
from footplate_api.dependencies import Reading
from footplate_api.errors import DatabaseUnavailable
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.identity.rights import require_right
from footplate_api.models.audit import AuditEntry, AuditResult

router = APIRouter(prefix="/v1", tags=["audit"], **ROUTER)


@router.get(
    "/audit",
    summary="Audit log of writes, newest first",
    dependencies=[require_right("list", everywhere=True)],
    responses=raises(DatabaseUnavailable),
)
async def list_audit(query: Annotated[AuditQuery, Query()], session: Reading) -> AuditList:
    """List every write through this API, including refused ones, but neither telemetry nor dry runs.

    Requires the right to list the runs of all namespaces; follow `nextCursor` for the next page.
    """
    after = None if query.cursor is None else pagination.decode(query.cursor, query.filters_json())
    rows = await repository.page(session, query, after)
    items = [_event(entry, result) for entry, result in rows[: query.limit]]
    if len(rows) <= query.limit:
        return AuditList(items=items, next_cursor=None)
    last = AuditPosition(items[-1].at, items[-1].id)
    return AuditList(items=items, next_cursor=pagination.encode(last, query.filters_json()))


def _event(entry: AuditEntry, result: AuditResult | None) -> AuditEvent:
    return AuditEvent(
        id=entry.id,
        at=entry.at,
        request_id=entry.request_id,
        username=entry.username,
        user_uid=entry.user_uid,
        groups=entry.groups,
        verb=entry.verb,
        resource=entry.resource,
        namespace=entry.namespace,
        name=entry.name or (result.name if result else ""),
        uid=result.uid if result else "",
        result=AuditOutcome.model_validate(result) if result else None,
    )
