"""FastAPI dependencies of the route of telemetry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from footplate_api.dependencies import Contextual
from footplate_api.telemetry.ingest import Ingest
from footplate_api.telemetry.telemetry_admission import BodyMemoryLimits


def ingest(request: Request) -> Ingest:
    """Return the telemetry writer of the application that serves `request`."""
    found = request.app.state.ingest
    assert isinstance(found, Ingest)
    return found


async def _admitted(request: Request, context: Contextual) -> AsyncIterator[bytes]:
    admission: BodyMemoryLimits = request.app.state.admission
    async with admission.body(request, context.patience) as body:
        yield body


Ingesting = Annotated[Ingest, Depends(ingest)]
AdmittedBody = Annotated[bytes, Depends(_admitted, scope="function")]
"""Of telemetry: it is not read before there is room for it, which it has until it is answered."""
