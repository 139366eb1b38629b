"""Route dependency of telemetry: the caller must be the run's coordinator, whatever its rights."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request

from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.coordinators.service import CoordinatorAuthorizer
from footplate_api.identity.rights import get_caller, name_of, namespace_of


async def _its_coordinator(request: Request) -> CoordinatorPod:
    """Return the coordinator that sends; raises NotItsCoordinator before the API validates the parameters."""
    known = request.app.state.coordinators
    assert isinstance(known, CoordinatorAuthorizer)
    path = request.path_params
    return await known.authorize(get_caller(request), namespace_of(path), name_of(path))


OF_ITS_COORDINATOR: Final = Depends(_its_coordinator)
Sender = Annotated[CoordinatorPod, OF_ITS_COORDINATOR]
"""Who it is; asked once for a request, however often it is named."""
