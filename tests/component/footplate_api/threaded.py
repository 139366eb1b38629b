"""The application behind a real server, on an event loop of its own: what its caller costs is not counted.

A test's own client would share the loop with the application, and parse its megabytes there.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import uvicorn
import uvloop

from footplate_api.app import create_app
from footplate_api.app_context import AppContext
from footplate_api.telemetry.telemetry_admission import BodyMemoryLimits
from tests.support.loop_lag import loop_lag
from tests.support.review_server import BEARER

Answer = TypeVar("Answer")


@dataclass
class Served:
    """An application whose loop is another thread's."""

    client: httpx.AsyncClient
    port: int
    context: AppContext
    admission: BodyMemoryLimits
    loop: asyncio.AbstractEventLoop

    async def do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """What `work` returns, which is done in the application's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    async def lag(self, request: Coroutine[Any, Any, httpx.Response]) -> tuple[httpx.Response, float]:
        """The answer to `request`, and for how many seconds of CPU it held the loop up at most."""
        began, ended = Future[None](), asyncio.Event()

        async def watch() -> float:
            async with loop_lag() as seen:
                await asyncio.sleep(0)  # the probe's first turn
                began.set_result(None)
                await ended.wait()
            return seen.longest

        watching = asyncio.create_task(self.do(watch()))
        await asyncio.wrap_future(began)
        answer = await request
        self.loop.call_soon_threadsafe(ended.set)
        return answer, await watching


@asynccontextmanager
async def served(context: AppContext) -> AsyncIterator[Served]:
    """Serves for the block, from its first answer on."""
    listening = socket.create_server(("127.0.0.1", 0))  # whoever connects before it serves waits
    port: int = listening.getsockname()[1]
    app = create_app(context)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    loop = Future[asyncio.AbstractEventLoop]()

    async def serve() -> None:
        loop.set_result(asyncio.get_running_loop())
        await server.serve(sockets=[listening])

    serving = asyncio.create_task(asyncio.to_thread(uvloop.run, serve()))
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=60, headers=BEARER
        ) as client:
            found = Served(client, port, context, app.state.admission, await asyncio.wrap_future(loop))
            await found.do(context.startup.wait())
            yield found
    finally:
        server.should_exit = True
        await serving
