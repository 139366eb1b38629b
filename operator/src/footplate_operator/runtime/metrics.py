"""The operator's own metrics, few, with bounded labels and base units, and where they are asked for.

A kind adds its own to `registry`. A replica that waits for the Lease is ready as
well: otherwise a rolling update would wait for a new pod that waits for the old one.
One that does not see what it has to watch is not.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_DURATIONS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
KeyType = TypeVar("KeyType")


class Metrics:
    """One registry per operator, so that tests share nothing."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "footplate_operator_reconciles",
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
            "footplate_operator_queue_runs", "Runs that wait to be reconciled.", registry=self.registry
        )
        self.waited = Histogram(
            "footplate_operator_queue_wait_seconds",
            "How long a run that could be reconciled waited for it.",
            buckets=_DURATIONS,
            registry=self.registry,
        )
        self.leader = Gauge(
            "footplate_operator_leader_ratio", "1 while this replica leads.", registry=self.registry
        )
        self.requests = Counter(
            "footplate_operator_api_requests",
            "Requests to the API server by method and status; status 0: no answer.",
            ["verb", "code"],
            registry=self.registry,
        )
        self.watch_age = Gauge(
            "footplate_operator_watch_age_seconds",
            "Since when the API server has said nothing on a watch of the leader.",
            ["kind"],
            registry=self.registry,
        )
        self.stall = Gauge(
            "footplate_operator_loop_stall_seconds",
            "The longest time in the last minute or two in which the operator did nothing at all.",
            registry=self.registry,
        )
        for result in ("success", "error"):
            self.reconciles.labels(result)

    def count_request(self, method: str, status: int) -> None:
        """One request to the API server was answered; `status` 0: it was not."""
        self.requests.labels(method, str(status)).inc()

    def measured(self, work: Callable[[KeyType], Awaitable[None]]) -> Callable[[KeyType], Awaitable[None]]:
        """`work`, counted and timed."""

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
        """The exposition format."""
        return generate_latest(self.registry)


def application(
    metrics: Metrics,
    before: Callable[[], None],
    unready: Callable[[], str],
    without: Callable[[], str] = lambda: "",
) -> web.Application:
    """`/metrics`, `/healthz` and `/readyz`.

    `before` brings gauges up to date; `unready` says why this replica is not ready, or nothing; `without`
    what a ready one lacks and can do without.
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
