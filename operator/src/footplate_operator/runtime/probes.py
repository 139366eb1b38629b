"""`/metrics`, `/healthz` and `/readyz`.

A replica that waits for the Lease is ready as well: otherwise a rolling update
would wait for a new pod that waits for the old one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from footplate_operator.runtime.metrics import Metrics


def application(metrics: Metrics, before: Callable[[], None]) -> web.Application:
    """The three routes; `before` brings gauges up to date."""

    async def show_metrics(_: web.Request) -> web.Response:
        before()
        return web.Response(body=metrics.text(), content_type="text/plain")

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes(
        [web.get("/metrics", show_metrics), web.get("/healthz", healthy), web.get("/readyz", healthy)]
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
