"""Start-up stages of the process, and its responses until it can serve.

The server listens at once: a probe sees that the process lives, and why it is not ready, for as long as a
migration takes or the database is away. The API serves nothing else before.
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


class StartupStage(StrEnum):
    """Start-up stages, each a sentence without its full stop."""

    CONNECTING = "The database does not answer yet"
    MIGRATING = "The migration of the database, in this or another process, is in progress"
    FAILED = "The migration of the database failed, and the process exits"


class Startup:
    """Start-up stage of a process; `elapsed` is a monotonic clock in seconds."""

    def __init__(self, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._elapsed = elapsed
        self._stage: StartupStage | None = StartupStage.CONNECTING
        self._since = elapsed()
        self._over = asyncio.Event()
        self.failure: Exception | None = None

    def enter(self, stage: StartupStage) -> None:
        """Set the stage, and its start time if it is a new one; callable from any thread."""
        if stage is not self._stage:
            self._stage, self._since = stage, self._elapsed()

    def mark_ready(self) -> None:
        """Mark the process as ready."""
        self._stage = None
        self._over.set()

    def mark_failed(self, error: Exception) -> None:
        """Mark the start as failed for good."""
        self.enter(StartupStage.FAILED)
        self.failure = error
        self._over.set()

    def check(self) -> None:
        """Raise Starting until the process is ready."""
        if self._stage is not None:
            seconds = round(self._elapsed() - self._since)
            raise Starting(f"{self._stage} ({seconds} s so far); only /healthz and /version are served.")

    async def wait(self) -> None:
        """Wait until the process is ready, or its start failed."""
        await self._over.wait()


class StartupGate:
    """ASGI middleware that refuses requests until the process is ready."""

    def __init__(self, app: ASGIApp, startup: Startup) -> None:
        self._app = app
        self._startup = startup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in SERVED:
            self._startup.check()
        await self._app(scope, receive, send)
