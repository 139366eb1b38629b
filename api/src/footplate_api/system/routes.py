"""REST routes of probes, versions and metrics."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from footplate_api.dependencies import Contextual, of_state
from footplate_api.errors import DatabaseUnavailable
from footplate_api.http.openapi import ROUTER, Responses, raises
from footplate_api.identity.rights import READS_METRICS
from footplate_api.system import service
from footplate_api.system.schemas import Health, Readiness, Version
from footplate_api.system.service import MetricsExporter

router = APIRouter(tags=["system"], **ROUTER)

_EXPOSITION: Final[Responses] = {
    200: {
        "description": "Prometheus' text format",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@router.get("/healthz", summary="Alive")
async def healthz() -> Health:
    """Report that the process answers, whatever the state of its dependencies."""
    return Health()


@router.get("/readyz", summary="Ready", responses=raises(DatabaseUnavailable))
async def readyz(context: Contextual) -> Readiness:
    """Return 200 if the database answers, else 503; without Kubernetes the API is only degraded."""
    return await service.readiness(context.database, context.mirror)


@router.get("/version", summary="Versions")
async def version(context: Contextual) -> Version:
    """Return the versions of the API, its contracts and the build."""
    return service.versions(context.revision)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    dependencies=[READS_METRICS],
    response_class=Response,
    responses=_EXPOSITION,
)
async def metrics(
    scrapes: Annotated[MetricsExporter, Depends(of_state("scrapes", MetricsExporter))], context: Contextual
) -> Response:
    """Return the process's own metrics; on one of all replicas also runs by phase, and step, loss and
    more of runs that train, wait or just ended.
    """
    return Response(await scrapes.text(context.now()), media_type=CONTENT_TYPE_LATEST)
