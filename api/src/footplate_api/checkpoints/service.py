"""Reads the checkpoints of a run."""

from __future__ import annotations

from datetime import UTC, datetime

from footplate_api.checkpoints import repository
from footplate_api.checkpoints.schemas import CheckpointItem, CheckpointList, CheckpointQuery
from footplate_api.db.database import ReadSession
from footplate_api.models.checkpoint import CheckpointRow
from footplate_api.registry import lookup


async def list_checkpoints(
    session: ReadSession, namespace: str, name: str, query: CheckpointQuery
) -> CheckpointList:
    """Return a page of a run's checkpoints, newest first; raises RunNotFound."""
    run = await lookup.find(session, namespace, name, query.uid, query.former_namespaces)
    rows, more = await repository.newest_first(session, run.uid, query.before, query.limit, query.removed)
    items = [_item(row) for row in rows]
    following = str(items[-1].step) if more else None
    return CheckpointList(run_uid=run.uid, items=items, next_cursor=following)


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
