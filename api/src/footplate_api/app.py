"""Puts the application together from what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from footplate_api import edge, migrate, problems
from footplate_api.attempts import routes as attempts
from footplate_api.checkpoints import routes as checkpoints
from footplate_api.edge import Context
from footplate_api.metrics import routes as metrics
from footplate_api.middleware import RequestEdge
from footplate_api.pipelines import kubernetes
from footplate_api.runs import routes as runs
from footplate_api.system import routes as system

_TAGS: Sequence[dict[str, str]] = (
    {"name": "runs", "description": "TrainingRuns: created in Kubernetes, remembered here for good."},
    {"name": "metrics", "description": "Metric history, one row a step."},
    {"name": "checkpoints", "description": "Durable checkpoints."},
    {"name": "system", "description": "Probes, versions, Prometheus metrics."},
)


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["schemas"] |= problems.schemas()
        return document


def create_app(context: Context) -> FastAPI:
    """The whole application; its lifespan migrates the database and runs the mirror."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await migrate.upgrade(context.database)
        following = asyncio.create_task(
            kubernetes.follow(
                context.cluster, context.database, context.metrics, context.mirror, context.now
            ),
            name="mirror",
        )
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await context.database.close()

    app = _Application(
        title="Footplate",
        summary="History, metrics and REST access for TrainingRuns",
        description="Errors are problem+json (RFC 9457) with the wrong field, its value and what is right.",
        version=version("footplate-api"),
        openapi_tags=list(_TAGS),
        responses=problems.RESPONSES,
        lifespan=lifespan,
    )
    app.state.context = context
    for router in (runs.router, attempts.router, metrics.router, checkpoints.router, system.router):
        app.include_router(router)
    edge.install(app)
    app.add_middleware(RequestEdge, metrics=context.metrics)
    return app
