"""The operator's own metrics, few, with bounded labels and base units, and their HTTP server.

A kind adds its own to `registry`. A replica that waits for the Lease is ready as well: otherwise a rolling
update would wait for a new pod that waits for the old one. A replica whose watches are blind is not ready.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final, TypeVar

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from footplate_contracts.names import Env

_VERBS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")  # what else there is counts from its first
_DURATIONS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
KeyType = TypeVar("KeyType")


class Metrics:
    """Metrics with a registry per operator, so that tests share nothing."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # halves the number of series
        self.registry = CollectorRegistry()
        GCCollector(self.registry)
        PlatformCollector(self.registry)
        ProcessCollector(registry=self.registry)
        build = Gauge(
            "footplate_operator_build_info",
            "1, labelled with the operator's version and revision.",
            ["version", "revision"],
            registry=self.registry,
        )
        build.labels(version("footplate-operator"), os.environ.get(Env.REVISION, "")).set(1)
        self.reconciles = Counter(
            "footplate_operator_controller_reconcile",
            "Reconciliations by result.",
            ["result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "footplate_operator_reconcile_duration_seconds",
            "Duration of one reconciliation.",
            buckets=_DURATIONS,
            registry=self.registry,
        )
        self.depth = Gauge(
            "footplate_operator_workqueue_depth", "Runs waiting to be reconciled.", registry=self.registry
        )
        self.waited = Histogram(
            "footplate_operator_workqueue_queue_duration_seconds",
            "Time that a run waited in the queue for its reconciliation.",
            buckets=_DURATIONS,
            registry=self.registry,
        )
        self.leading = Gauge(
            "footplate_operator_leader_election_master_status",
            "1 while this replica leads, else 0.",
            registry=self.registry,
        )
        self.requests = Counter(
            "footplate_operator_api_requests",
            "Requests to the API server by method and status; status 0 means no response.",
            ["method", "code"],
            registry=self.registry,
        )
        self.watch_heard = Gauge(
            "footplate_operator_watch_last_event_timestamp_seconds",
            "Unix time of the API server's last event on a watch of the leader.",
            ["kind"],
            registry=self.registry,
        )
        self.loop_lag = Gauge(
            "footplate_operator_loop_lag_seconds",
            "Longest time that the event loop was blocked in the last one to two minutes.",
            registry=self.registry,
        )
        for result in ("success", "error"):
            self.reconciles.labels(result)
        for verb in _VERBS:
            self.requests.labels(verb, "200")

    def count_request(self, method: str, status: int) -> None:
        """Count a request to the API server; `status` 0: no answer."""
        self.requests.labels(method, str(status)).inc()

    def instrument(self, work: Callable[[KeyType], Awaitable[None]]) -> Callable[[KeyType], Awaitable[None]]:
        """Return `work`, counted and timed."""

        async def run(key: KeyType) -> None:
            began, result = time.monotonic(), "error"
            try:
                await work(key)
                result = "success"
            finally:
                self.reconciles.labels(result).inc()
                self.seconds.observe(time.monotonic() - began)

        return run

    def text(self) -> bytes:
        """Return the exposition format."""
        return generate_latest(self.registry)


def application(
    metrics: Metrics,
    before: Callable[[], None],
    unready: Callable[[], str],
    without: Callable[[], str] = lambda: "",
) -> web.Application:
    """Return the application with `/metrics`, `/healthz` and `/readyz`.

    `before` updates the gauges; `unready` returns why this replica is not ready, or nothing; `without`
    returns what a ready one lacks and can do without.
    """

    async def show_metrics(_: web.Request) -> web.Response:
        before()
        return web.Response(body=metrics.text(), content_type="text/plain")

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        why, lacking = unready(), without()
        fine = f"ok, without {lacking}" if lacking else "ok"
        return web.Response(text=f"{why or fine}\n", status=503 if why else 200)

    app = web.Application()
    app.add_routes(
        [web.get("/metrics", show_metrics), web.get("/healthz", healthy), web.get("/readyz", ready)]
    )
    return app


@asynccontextmanager
async def serving(app: web.Application, port: int) -> AsyncIterator[None]:
    """Serve `app` on `port` of all addresses for the block."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        yield
    finally:
        await runner.cleanup()
