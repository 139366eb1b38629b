"""Takes telemetry in and reads histories back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from footplate_api.checkpoints import repository as checkpoints
from footplate_api.database import ReadSession, WriteSession
from footplate_api.errors import RunMismatch
from footplate_api.metrics import history, repository
from footplate_api.metrics.schemas import GENERATION, SHOWN, HistoryPart, MetricHistory, MetricQuery
from footplate_api.runs import repository as runs
from footplate_api.runs import service as run_service
from footplate_contracts.metrics import Column
from footplate_contracts.reports import TelemetryBatch, TelemetryReceipt


async def ingest(session: WriteSession, namespace: str, name: str, batch: TelemetryBatch) -> TelemetryReceipt:
    """Stores a batch; sending it again changes nothing.

    A run that the mirror has not seen yet is taken on trust; one that it knows under
    another name raises RunMismatch. Values that no column holds raise Invalid.
    """
    history.check(batch)
    known = await runs.names_of(session, batch.run_uid)
    if known not in (None, (namespace, name)):
        raise RunMismatch(
            f"body.runUid: {batch.run_uid!r} is the run {known[0]}/{known[1]}, not {namespace}/{name}"
        )
    await repository.store(session, batch.run_uid, history.newest(batch.rows))
    await checkpoints.store(session, batch.run_uid, batch.checkpoints)
    return TelemetryReceipt(rows=len(batch.rows), checkpoints=len(batch.checkpoints))


async def read(session: ReadSession, namespace: str, name: str, query: MetricQuery) -> HistoryPart:
    """The asked part of a run's history; raises RunNotFound."""
    run = await run_service.get(session, namespace, name, query.uid, query.former_namespaces)
    found = await repository.bounds(session, run.uid, query.from_step, query.to_step)
    if found is None:
        return _part(run.uid, query, query.every or 1, [], None)
    first, last = found
    every = query.every or history.stride(first, last, query.limit)
    rows = await repository.rows(session, run.uid, first, last, every, query.limit + 1)
    following = rows[query.limit].step if len(rows) > query.limit else None
    return _part(run.uid, query, every, rows[: query.limit], following)


def _column(column: Column, rows: Sequence[Any]) -> list[Any] | None:
    if column is GENERATION:
        return [f"{row.epoch}.{row.number}" for row in rows]
    values = [getattr(row, column.name) for row in rows]
    if column.optional:
        return values if any(value is not None for value in values) else None
    return [math.nan if value is None else value for value in values]


def _part(
    run_uid: str, query: MetricQuery, every: int, rows: Sequence[Any], following: int | None
) -> HistoryPart:
    asked = {column.name: _column(column, rows) for column in SHOWN if column.alias in query.names}
    step = [row.step for row in rows]
    return MetricHistory(run_uid=run_uid, every=every, next_step=following, step=step, **asked)
