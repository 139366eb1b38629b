"""REST of telemetry and histories."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from footplate_api.edge import Contextual, Reading, Writing
from footplate_api.errors import DatabaseUnavailable, RunMismatch, RunNotFound
from footplate_api.metrics import service
from footplate_api.metrics.schemas import HistoryPart, MetricHistory, MetricQuery
from footplate_api.openapi import raises
from footplate_api.schemas import Namespace, RunName
from footplate_contracts.reports import TelemetryBatch, TelemetryReceipt

router = APIRouter(prefix="/v1/namespaces/{namespace}/runs/{name}", tags=["metrics"])


@router.post(
    "/telemetry",
    response_model_exclude_none=True,
    summary="Store telemetry of a run",
    responses=raises(RunMismatch, DatabaseUnavailable),
)
async def ingest_telemetry(
    namespace: Namespace, name: RunName, batch: TelemetryBatch, session: Writing, context: Contextual
) -> TelemetryReceipt:
    """Upserts metric rows and checkpoints under (run uid, step), idempotently.

    A row of a newer generation replaces that of an older one, never the other way
    round. The receipt is sent once everything is durable.
    """
    receipt = await service.ingest(session, namespace, name, batch)
    context.metrics.ingested_rows.inc(receipt.rows)
    return receipt


@router.get(
    "/metrics",
    response_model=MetricHistory,
    response_model_exclude_none=True,
    summary="Metric history of a run",
    responses=raises(RunNotFound, DatabaseUnavailable),
)
async def read_metrics(
    namespace: Namespace, name: RunName, query: Annotated[MetricQuery, Query()], session: Reading
) -> HistoryPart:
    """Columns of equal length. Long histories are thinned to `limit` rows unless `every` is given."""
    return await service.read(session, namespace, name, query)
