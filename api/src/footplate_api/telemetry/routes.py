"""REST endpoint of telemetry; its caller must be the run's coordinator, whatever its rights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request

from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.coordinators.service import CoordinatorAuthorizer
from footplate_api.dependencies import Contextual, of_state
from footplate_api.errors import (
    DatabaseFull,
    DatabaseUnavailable,
    NotItsCoordinator,
    RunMismatch,
    TooBusy,
)
from footplate_api.http import bodies
from footplate_api.http.openapi import ROUTER, raises
from footplate_api.identity.rights import Calling, name_of, namespace_of
from footplate_api.serialization.schemas import Namespace, RunName
from footplate_api.telemetry.ingest import Ingest
from footplate_api.telemetry.telemetry_admission import BodyMemoryLimits
from footplate_contracts.reports import TelemetryBatch, TelemetryReceipt

router = APIRouter(prefix="/v1/namespaces/{namespace}/runs/{name}", tags=["metrics"], **ROUTER)


async def _coordinator(
    request: Request,
    caller: Calling,
    known: Annotated[CoordinatorAuthorizer, Depends(of_state("coordinators", CoordinatorAuthorizer))],
) -> CoordinatorPod:
    """Return the coordinator that sends; raises NotItsCoordinator before the API validates the parameters."""
    path = request.path_params
    return await known.authorize(caller, namespace_of(path), name_of(path))


async def _admitted(
    request: Request,
    context: Contextual,
    limits: Annotated[BodyMemoryLimits, Depends(of_state("admission", BodyMemoryLimits))],
) -> AsyncIterator[bytes]:
    """Read the body once there is memory for it, and hold that until the response."""
    async with limits.body(request, context.body_timeout) as body:
        yield body


OF_ITS_COORDINATOR: Final = Depends(_coordinator)  # evaluated once for a request, however often it is named
AdmittedBody = Annotated[bytes, Depends(_admitted, scope="function")]


@router.post(
    "/telemetry",
    response_model_exclude_none=True,
    summary="Store telemetry of a run",
    dependencies=[OF_ITS_COORDINATOR],
    openapi_extra=bodies.openapi_request_body(TelemetryBatch),
    responses=raises(NotItsCoordinator, RunMismatch, TooBusy, DatabaseUnavailable, DatabaseFull),
)
async def ingest_telemetry(
    namespace: Namespace,
    name: RunName,
    sender: Annotated[CoordinatorPod, OF_ITS_COORDINATOR],
    body: AdmittedBody,
    ingest: Annotated[Ingest, Depends(of_state("ingest", Ingest))],
) -> TelemetryReceipt:
    """Store metric rows under (run uid, generation, step), checkpoints under (run uid, step), idempotently.

    Only the run's coordinator may send it, by the token of its pod; no other right permits it.
    The API sends the receipt once everything is durable; it states how long to wait before the next batch.
    """
    return await ingest.receive(sender, body)
