"""How far the process is on its way to serve, and what it answers until then.

It listens at once: whoever probes it learns that it lives, and why it is not ready,
for as long as a migration takes or a database is away. Nothing else is served before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from footplate_api.errors import Starting

SERVED: Final = frozenset({"/healthz", "/version"})  # whatever the database is


class Stage(StrEnum):
    """What a process that does not serve yet waits for, as a sentence without its end."""

    CONNECTING = "The database does not answer, and is asked again"
    MIGRATING = "The database is being migrated, by this process or by another one that it waits for"
    FAILED = "The migration of the database failed, and the process ends"


class Startup:
    """The stage of one process; `elapsed` is a clock in seconds that never steps."""

    def __init__(self, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._elapsed = elapsed
        self._stage: Stage | None = Stage.CONNECTING
        self._since = elapsed()
        self._over = asyncio.Event()
        self.failure: Exception | None = None

    def enter(self, stage: Stage) -> None:
        """It waits for this from now on, if it did not already; any thread may say so."""
        if stage is not self._stage:
            self._stage, self._since = stage, self._elapsed()

    def serve(self) -> None:
        """Everything is served from now on."""
        self._stage = None
        self._over.set()

    def fail(self, error: Exception) -> None:
        """It will never serve."""
        self.enter(Stage.FAILED)
        self.failure = error
        self._over.set()

    def check(self) -> None:
        """Raises Starting until everything is served."""
        if self._stage is not None:
            seconds = round(self._elapsed() - self._since)
            raise Starting(f"{self._stage}, for {seconds} s now; nothing else is served before.")

    async def over(self) -> None:
        """Wait until it serves, or failed."""
        await self._over.wait()


class StartupGate:
    """The layer that answers for the routes behind it until they can be served."""

    def __init__(self, app: ASGIApp, startup: Startup) -> None:
        self._app = app
        self._startup = startup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in SERVED:
            self._startup.check()
        await self._app(scope, receive, send)
