"""FastAPI dependencies of routes.

Authentication and authorization come before (identity/): the gate surrounds the router, and a route's rights
are its first dependencies.

The sessions in which routes read come from here; the clock is the context's. One task writes telemetry
(telemetry.ingest), and answers once it is committed. A route that calls Kubernetes before it writes
(runs.service.submit) opens a transaction of its own after the response: a writer's lock is not held through a
wait. A long history (HistoryService.read) is written as JSON after its session is released.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request

from footplate_api.context import Context
from footplate_api.db.database import ReadSession
from footplate_api.http import bodies

RUN_LIMIT: Final = 3 * 1024 * 1024  # what the Kubernetes API server itself takes


Service = TypeVar("Service")


def of_state(name: str, kind: type[Service]) -> Callable[[Request], Service]:
    """Return a dependency: the service of class `kind` that the application has as `app.state.<name>`."""

    def get(request: Request) -> Service:
        found = getattr(request.app.state, name)
        assert isinstance(found, kind)
        return found

    return get


def context(request: Request) -> Context:
    """Return the context of the application that serves `request`."""
    found: Context = request.app.state.context
    return found


Contextual = Annotated[Context, Depends(context)]


async def _read(context: Contextual) -> AsyncIterator[ReadSession]:
    async with context.database.read() as session:
        yield session


async def _run_body(request: Request, context: Contextual) -> bytes:
    return await bodies.read(request, RUN_LIMIT, context.body_timeout)


RunBody = Annotated[bytes, Depends(_run_body)]

# Scope "function": the session is given back before the answer is sent.
Reading = Annotated[ReadSession, Depends(_read, scope="function")]
