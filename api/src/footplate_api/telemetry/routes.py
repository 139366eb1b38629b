"""REST endpoint of telemetry."""

from __future__ import annotations

from fastapi import APIRouter

from footplate_api.errors import (
    DatabaseFull,
    DatabaseUnavailable,
    NotItsCoordinator,
    RunMismatch,
    TooBusy,
)
from footplate_api.http import bodies
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.serialization.schemas import Namespace, RunName
from footplate_api.telemetry.dependencies import AdmittedBody, Ingesting
from footplate_api.telemetry.senders import OF_ITS_COORDINATOR, Sender
from footplate_contracts.reports import TelemetryBatch, TelemetryReceipt

router = APIRouter(prefix="/v1/namespaces/{namespace}/runs/{name}", tags=["metrics"], **ROUTER)


@router.post(
    "/telemetry",
    response_model_exclude_none=True,
    summary="Store telemetry of a run",
    dependencies=[OF_ITS_COORDINATOR],
    openapi_extra=bodies.openapi_request_body(TelemetryBatch),
    responses=raises(NotItsCoordinator, RunMismatch, TooBusy, DatabaseUnavailable, DatabaseFull),
)
async def ingest_telemetry(
    namespace: Namespace, name: RunName, sender: Sender, body: AdmittedBody, ingest: Ingesting
) -> TelemetryReceipt:
    """Store metric rows under (run uid, generation, step), checkpoints under (run uid, step), idempotently.

    Only the run's coordinator may send it, by the token of its pod; no other right permits it.
    The API sends the receipt once everything is durable; it states how long to gather before the next batch.
    """
    return await ingest.receive(sender, body)
