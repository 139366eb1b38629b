"""REST endpoint of checkpoints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query

from footplate_api.checkpoints import repository
from footplate_api.checkpoints.schemas import CheckpointItem, CheckpointList, CheckpointQuery
from footplate_api.dependencies import Reading
from footplate_api.errors import DatabaseUnavailable, RunNotFound
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.identity.rights import require_right
from footplate_api.models.run import CheckpointRow
from footplate_api.registry import lookup
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
    uid = await lookup.uid_of(session, namespace, name, query.uid, query.former_namespaces)
    rows, more = await repository.newest_first(session, uid, query.before, query.limit, query.removed)
    items = [_item(row) for row in rows]
    return CheckpointList(run_uid=uid, items=items, next_cursor=str(items[-1].step) if more else None)


def _item(row: CheckpointRow) -> CheckpointItem:
    return CheckpointItem(
        step=row.step,
        uri=row.uri,
        committed_at=datetime.fromtimestamp(row.time, UTC),
        bytes=row.bytes,
        seconds_blocked=row.seconds_blocked,
        seconds_total=row.seconds_total,
        generation=None if row.epoch is None else f"{row.epoch}.{row.number}",
        removed_at=None if row.removed_at is None else datetime.fromtimestamp(row.removed_at, UTC),
    )
