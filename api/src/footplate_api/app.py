"""Builds the FastAPI application from its context."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Any, Final, Protocol

from fastapi import FastAPI

from footplate_api import page
from footplate_api.app_context import AppContext
from footplate_api.attempts import routes as attempts
from footplate_api.audit import routes as audit
from footplate_api.audit.refusals import RefusalRecorder
from footplate_api.checkpoints import routes as checkpoints
from footplate_api.coordinators.service import CoordinatorAuthorizer
from footplate_api.costs import routes as costs
from footplate_api.costs.service import CostService
from footplate_api.db.database import Database
from footplate_api.http import bodies, document, error_handlers, openapi
from footplate_api.http.document import OpenApiDocument
from footplate_api.http.middleware import RequestEdge
from footplate_api.http.staleness import Staleness
from footplate_api.http.startup import StartupGate
from footplate_api.identity.authentication import Authentication
from footplate_api.identity.authentication_middleware import AuthenticationMiddleware
from footplate_api.identity.authorization import Authorization
from footplate_api.identity.rate_limits import RateLimitMiddleware, TokenBuckets
from footplate_api.instruments import BackupMetrics
from footplate_api.lineage import routes as chains
from footplate_api.metrics import routes as metrics
from footplate_api.metrics.service import HistoryService
from footplate_api.mirror import kubernetes_sync
from footplate_api.runs import manifest_schemas
from footplate_api.runs import routes as runs
from footplate_api.runs.list_limits import RateLimitedLists
from footplate_api.samples import routes as samples
from footplate_api.system import routes as system
from footplate_api.system.service import MetricsExporter
from footplate_api.tariff import routes as tariff
from footplate_api.tariff.service import TariffReader
from footplate_api.tasks import database_size, migration, monthly_costs, retention, scheduled_backups
from footplate_api.tasks.database_size import DatabaseSizeTask
from footplate_api.tasks.exporter_lease import ExporterLease
from footplate_api.tasks.monthly_costs import MonthlyCostTask
from footplate_api.tasks.periodic import Periodic
from footplate_api.tasks.retention import RetentionTask
from footplate_api.tasks.scheduled_backups import BackupTask
from footplate_api.telemetry import routes as telemetry
from footplate_api.telemetry.ingest import Ingest
from footplate_api.telemetry.telemetry_admission import BodyMemoryLimits, TelemetryAdmissionMiddleware
from footplate_contracts.loop_lag import LoopLag

LEAVE_SECONDS: Final = 5.0  # for connections to be closed at the end
ROUTERS: Final = tuple(
    part.router
    for part in (
        runs,
        attempts,
        chains,
        telemetry,
        metrics,
        samples,
        checkpoints,
        costs,
        tariff,
        audit,
        system,
        page,
        document,
    )
)  # all that is served
_TAGS: Sequence[dict[str, str]] = (
    {"name": "runs", "description": "TrainingRuns: created in Kubernetes, stored here permanently."},
    {"name": "metrics", "description": "Metric history, one row per step, and samples of steps."},
    {"name": "checkpoints", "description": "Durable checkpoints."},
    {"name": "costs", "description": "Dollars, energy and carbon, and the prices and profiles behind them."},
    {"name": "audit", "description": "Writes through this API, with their callers and results."},
    {"name": "system", "description": "Probes, versions, Prometheus metrics."},
)


class _Pipeline(Protocol):
    """Background task of the application."""

    async def run(self) -> None:
        """Run until cancelled."""


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            made = super().openapi()
            made["components"]["schemas"] |= manifest_schemas.specific(bodies.schemas())
            self.openapi_schema = openapi.complete(made)
        return self.openapi_schema


def create_app(context: AppContext) -> FastAPI:
    """Build the application, whose lifespan migrates the database and then starts the background tasks."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        spending = MonthlyCostTask(
            context.database, app.state.costs, app.state.scrapes, context.replica, context.now
        )
        working = asyncio.create_task(_work(context, app.state.ingest, spending), name="work")
        lag = LoopLag()
        context.metrics.loop_lag.set_function(lambda: lag.longest)
        measuring = asyncio.create_task(lag.measure(), name="loop lag")
        yield
        measuring.cancel()
        await _end(working)
        await context.database.close()

    app = _Application(
        title="Footplate",
        summary="History, metrics and REST access for TrainingRuns",
        description="Errors are problem+json (RFC 9457) with the wrong field, its value and what it must be.",
        version=version("footplate-api"),
        openapi_tags=list(_TAGS),
        # As they are: FastAPI would make each of an included router anew when it is asked for first.
        routes=[route for router in ROUTERS for route in router.routes],
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.context = context
    for state, place in (("in_use", 0), ("idle", 1)):
        gauge = context.metrics.connections.labels(state)
        gauge.set_function(partial(_connections, context.database, place))
    context.metrics.database_full.set_function(lambda: float(context.database.full is not None))
    app.state.ingest = Ingest(context.database, context.metrics)
    app.state.document = OpenApiDocument(app.openapi)
    app.state.admission = BodyMemoryLimits()
    app.state.coordinators = CoordinatorAuthorizer(context.database, context.cluster)
    app.state.histories = HistoryService(context.database)
    app.state.tariffs = TariffReader(context.database)
    app.state.scrapes = MetricsExporter(
        context.database, context.metrics.registry, context.served, context.replica
    )
    app.state.costs = CostService(context.database, app.state.tariffs)
    error_handlers.install_error_handlers(app)
    _install_access(app, context)
    return app


def _install_access(app: FastAPI, context: AppContext) -> None:
    """Add the services and middleware that decide which requests are answered, the innermost first."""
    access = context.access
    requests = TokenBuckets(access.rates.requests, context.clock)
    app.state.lists = RateLimitedLists(context.database, requests)
    app.state.refusals = RefusalRecorder(
        context.database,
        TokenBuckets(access.rates.noted_refusals, context.clock),
        context.metrics,
        context.now,
    )
    app.state.authorization = Authorization(context.reviewer, context.clock)
    authentication = Authentication(context.reviewer, access.audiences, context.issuers, context.clock)
    app.add_middleware(TelemetryAdmissionMiddleware, body_timeout=context.body_timeout)
    app.add_middleware(RateLimitMiddleware, rates=access.rates, clock=context.clock, requests=requests)
    app.add_middleware(AuthenticationMiddleware, authentication=authentication, public=access.public)
    app.add_middleware(Staleness, mirror=context.mirror, served=context.served, now=context.now)
    app.add_middleware(StartupGate, startup=context.startup)
    app.add_middleware(RequestEdge, metrics=context.metrics)


def _connections(database: Database, place: int) -> float:
    return float(database.connections[place])


async def _work(context: AppContext, ingest: Ingest, spending: MonthlyCostTask) -> None:
    """Migrate the database, then run everything that writes to it beside requests."""
    if not await migration.ensure_schema(context.database, context.migrations, context.startup):
        return
    following = kubernetes_sync.run_reflectors(
        context.cluster, context.database, context.metrics, context.mirror, context.now, context.served
    )
    pipelines: dict[str, _Pipeline] = {
        "ingest": ingest,
        "exporter lease": ExporterLease(context.database, context.replica),
    }
    loops = _loops(context, spending)
    async with asyncio.TaskGroup() as group:
        group.create_task(following, name="kubernetes")
        for name, pipeline in (pipelines | {loop.name: loop for loop in loops}).items():
            group.create_task(pipeline.run(), name=name)


def _loops(context: AppContext, spending: MonthlyCostTask) -> list[Periodic]:
    """Return the loops that work for themselves, with their periods, first delays and log levels."""
    keeping = RetentionTask(context.database, context.now, context.limits, context.room, context.metrics)
    size = DatabaseSizeTask(context.database, context.metrics, context.room)
    loops = [
        Periodic(keeping.look, retention.LOOK_SECONDS, "retention", first_seconds=retention.FIRST_SECONDS),
        Periodic(size.look, database_size.LOOK_SECONDS, "measuring the database", logging.DEBUG),
        Periodic(spending.refresh, monthly_costs.LOOK_SECONDS, "adding up this month's costs", logging.INFO),
    ]
    if context.backups is not None:
        url = context.database.engine.url.render_as_string(hide_password=False)
        instruments = BackupMetrics(context.metrics.registry)
        task = BackupTask(url, context.backups, instruments, context.now)
        loops.append(Periodic(task.look, scheduled_backups.LOOK_SECONDS, "scheduled back-ups"))
    return loops


async def _end(working: asyncio.Task[None]) -> None:
    """Cancel `working`, and wait until its database connections are closed.

    SQLAlchemy closes them in tasks of its own, and one of SQLite that its loop cancels in turn never ends.
    """
    before = asyncio.all_tasks()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    if closing := asyncio.all_tasks() - before:
        await asyncio.wait(closing, timeout=LEAVE_SECONDS)
